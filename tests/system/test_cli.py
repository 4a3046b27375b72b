"""Exit statuses, one-line errors and flags."""

import argparse
import contextlib
import errno
import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from system import cli

ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = "out of memory: make the pictures, the batch or the networks smaller"


def raiser(error: BaseException):
    def main(argv):
        raise error

    return main


# --- run


@pytest.mark.parametrize("returned, status", [(None, 0), (cli.DONE, 0), (cli.PARTIAL, 1)])
def test_run_returns_the_status_of_the_command_and_says_nothing(call, returned, status):
    outcome = call(lambda argv: returned)
    assert (outcome.status, outcome.out, outcome.err) == (status, "", "")


@pytest.mark.parametrize(
    "error, status, line",
    [
        (cli.InputError("--size 3: too small; use 8"), 2, "--size 3: too small; use 8"),
        (cli.InputError("a name with\na line break"), 2, "a name with a line break"),
        (cli.Stopped("stopped at step 3; go on with: train.py"), 1, "stopped at step 3; go on with: train.py"),
        (OSError(errno.EROFS, "Read-only file system", "runs/a"), 1, "runs/a: Read-only file system"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 2, "a.png: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), 1, "a.png: No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "output: Disk quota exceeded"),
        (OSError("no number"), 2, "output: no number"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in []"),
            2,
            "TMPDIR: there is no folder for temporary files that can be written; name one (No usable temporary directory found in [])",
        ),
        (tf.errors.ResourceExhaustedError(None, None, "{{node}} a; No space left on device [Op:SaveV2]"), 1, "a: No space left on device"),
        (tf.errors.ResourceExhaustedError(None, None, "No space left on device"), 1, "output: No space left on device"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), 1, OUT_OF_MEMORY),
        (tf.errors.PermissionDeniedError(None, None, "{{node}} a; Permission denied [Op:SaveV2]"), 2, "a: Permission denied"),
        (tf.errors.PermissionDeniedError(None, None, "a/b; Operation not permitted"), 2, "a/b: Operation not permitted"),
        (tf.errors.NotFoundError(None, None, "a/b; No such file or directory"), 2, "a/b: No such file or directory"),
        (tf.errors.FailedPreconditionError(None, None, "a/b; Not a directory"), 2, "a/b: Not a directory"),
        (tf.errors.UnknownError(None, None, "a; Stale file handle"), 1, "a: Stale file handle"),
        (MemoryError(), 1, OUT_OF_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted"),
        (cli.Terminated(), 143, "terminated"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_run_reports_an_error_in_one_line(call, monkeypatch, error, status, line):
    monkeypatch.setattr(sys, "argv", ["some/where/command.py"])
    outcome = call(raiser(error))
    assert (outcome.status, outcome.out, outcome.err) == (status, "", f"command.py: {line}\n")


@pytest.mark.parametrize(
    "error", [ValueError("a"), RuntimeError("No space left on device"), tf.errors.InvalidArgumentError(None, None, "a")]
)
def test_run_does_not_hide_the_programs_own_errors(error):
    with pytest.raises(type(error)):
        cli.run(raiser(error), [])


def test_run_clears_a_bar_before_its_line(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    with contextlib.redirect_stderr(terminal):
        cli.run(raiser(cli.InputError("wrong")), [])
    assert terminal.getvalue().startswith("\r\033[K") and terminal.getvalue().endswith(": wrong\n")


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_and_leaves_nothing_behind(tmp_path, number, status):
    program = """
import signal, sys
from system import cli, storage
def main(argv):
    with storage.atomic_write(storage.path(argv[0])) as file:
        file.write_text("half")
        print("begun", flush=True)
        while True:
            signal.pause()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it
sys.exit(cli.run(main, sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "new" / "file")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    assert err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == []


# --- Parser and number


def options(*argv: str):
    parser = cli.Parser("What it does.\n\nA paragraph.")
    parser.add_argument("--image_size", type=cli.Number(int, 8, multiple=4), default=256, help="side")
    parser.add_argument("--name", help="a text")
    parser.add_argument("--rate", type=cli.Number(float, 0, 2), help="speed")
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--image_siz", "64"], "--image_siz"),
        (["--rat=1"], "--rat=1"),
        (["--image_size"], "--image_size: expected one argument"),
        (["--rate", "--image_size", "8"], "--rate: expected one argument"),
        (["--rate", "--image_size=8"], "--rate: expected one argument"),
        (["--rate", "-dash.png"], "--rate: '-dash.png' looks like a flag; as a value it is typed --rate=-dash.png"),
        (["--rate", "-it's.png"], """--rate: "-it's.png" looks like a flag; as a value it is typed '--rate=-it'"'"'s.png'"""),
        (["--image_size", "4"], "--image_size: 4 is out of range: use at least 8"),
        (["--image_size", "-8"], "-8"),
        (["--image_size", "30"], "--image_size: 30 is not a multiple of 4: use 28 or 32"),
        (["--image_size", "9.5"], "invalid int value: '9.5'"),
        (["--rate", "3"], "--rate: 3 is out of range: use from 0 to 2"),
        (["--rate", "nan"], "nan"),
        (["--rate", "x"], "invalid float value: 'x'"),
        (["--rate", "1", "x"], "--rate: takes one value; 'x' left over"),
        (["--rate", "-1", "x"], "--rate: -1 is out of range"),
        (["--name", "-5", "x"], "--name: takes one value; 'x' left over"),
        (["--rate", ""], "--rate: '' is empty"),
        (["--rate=--"], "--rate: '--' is no value"),
        (["--rate", "a\0b"], "--rate: 'a\\x00b' has a NUL character"),
        (["--rate", "\udcff"], "--rate: '\\udcff' is not UTF-8"),
        (["\udcff"], "unrecognized arguments: \\udcff"),
        (["stray"], "stray"),
    ],
)
def test_parser_refuses_in_one_line_without_usage(call, argv, words):
    call(lambda argv: options(*argv), *argv).assert_refused(words, "--help")


@pytest.mark.parametrize(
    "kind, low, high, text, refusal",
    [
        (float, 0, float("inf"), "inf", "inf is not a finite number"),
        (float, 0, float("inf"), "1e999", "1e999 is not a finite number"),
        (float, 0, float("inf"), "nan", "nan is out of range: use at least 0"),
        (float, 1, 2, "nan", "nan is out of range: use from 1 to 2"),
        (int, 0, 2**31 - 1, str(2**31), "2147483648 is out of range: use from 0 to 2147483647"),
        (int, 1, float("inf"), str(2**31), "2147483648 is out of range: use from 1 to 2147483647"),
    ],
)
def test_number_says_what_is_wrong(kind, low, high, text, refusal):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{refusal}$"):
        cli.Number(kind, low, high)(text)


@pytest.mark.parametrize("text, value", [("0", 0.0), ("2", 2.0), ("1e-4", 1e-4)])
def test_number_includes_its_limits(text, value):
    assert cli.Number(float, 0, 2)(text) == value


def test_help_shows_paragraphs_and_the_defaults_that_say_something(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda argv: options(*argv), ["--help"])
    out = capsys.readouterr().out
    assert not exit.value.code
    assert "What it does.\n\nA paragraph.\n" in out and "side (default: 256)" in out and "None" not in out


def test_a_terminal_obeys_nothing_that_a_name_says(call):
    def main(argv):
        raise cli.InputError("red\x1b[31m\nname\x07: é 名 \udcff")

    call(main).assert_refused(": red\\x1b[31m name\\x07: é 名 \\udcff\n")
