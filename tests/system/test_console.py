"""Commands whose output nobody reads, or that a full disk does not take, and where a shell has closed it."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from system import cli, console

ROOT = Path(__file__).parents[2]
WORK = """
import sys
from system import cli
def main(argv):
    for i in range(3):
        print("x" * 10000, flush=True)
        print("y" * 10000, file=sys.stderr)
    print("the end")
    open(argv[0], "w").close()
sys.exit(cli.run(main, sys.argv[1:]))
"""
PREFIX = "-c: "  # as the program has no name


def outcome(out, err, *argv: object) -> int:
    return subprocess.run([sys.executable, "-c", WORK, *map(str, argv)], cwd=ROOT, stdout=out, stderr=err).returncode


@contextlib.contextmanager
def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_who_is_not_read_any_more_does_its_work_in_silence(tmp_path):
    with broken_pipe() as pipe:
        assert outcome(pipe, pipe, tmp_path / "both") == cli.DONE
        found = subprocess.run(
            [sys.executable, "-c", WORK, str(tmp_path / "out")], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert (found.returncode, found.stderr.replace("y", "").strip()) == (cli.DONE, "")  # nothing of Python's own either
    assert {f.name for f in tmp_path.iterdir()} == {"both", "out"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has that")
def test_a_full_disk_under_standard_output_is_told_when_the_work_is_done(tmp_path):
    with open("/dev/full", "w") as full, open(tmp_path / "err", "w") as err:
        assert outcome(full, err, tmp_path / "one") == cli.PARTIAL
        assert outcome(subprocess.DEVNULL, full, tmp_path / "two") == cli.DONE
    assert (tmp_path / "err").read_text().replace("y", "").strip() == f"{PREFIX}standard output: No space left on device"
    assert (tmp_path / "one").exists() and (tmp_path / "two").exists()


def test_where_a_shell_has_closed_all_streams_nothing_else_gets_their_numbers(tmp_path):
    program = """
import os, sys
from system import cli
def main(argv):
    with open(argv[0], "w") as file:
        print("printed"), print("printed", file=sys.stderr)
        file.write(f"{file.fileno() > 2} {sys.stderr.isatty()} {sys.stdin.read()!r}")
sys.exit(cli.run(main, sys.argv[1:]))
"""
    command = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    ended = subprocess.run(["bash", "-c", command, sys.executable, program, str(tmp_path / "file")], cwd=ROOT)
    assert ended.returncode == cli.DONE and (tmp_path / "file").read_text() == "True False ''"


@pytest.mark.parametrize(("pipe", "status", "reason"), [(True, cli.PARTIAL, "Broken pipe"), (False, cli.WRONG_INPUT, "is closed")])
def test_what_is_made_for_standard_output_fails_with_it(tmp_path, pipe, status, reason):
    program = "import sys; from system import cli, console; sys.exit(cli.run(lambda argv: console.write_bytes(b'a picture')))"
    with broken_pipe() as out:
        command = ["bash", "-c", 'exec "$0" -c "$1"' + ("" if pipe else " >&-"), sys.executable, program]
        ended = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (status, f"{PREFIX}standard output: {reason}\n")


def test_space_that_comes_back_is_used():
    class Disk(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    disk = Disk()
    stream = console.Stream(disk)
    print("lost", file=stream)
    disk.full = False
    print("kept", file=stream)
    assert disk.getvalue() == "kept\n" and stream.lost == "No space left on device"


def test_the_streams_of_before_come_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError):
        cli.run(lambda argv: {}["a"])
    assert (sys.stdout, sys.stderr) == before
