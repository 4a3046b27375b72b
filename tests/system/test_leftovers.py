"""What a killed process leaves half-written is removed by the next one that writes there, and nothing else is."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import sample_data
from system import leftovers, storage

WRITER = """
import sys
from system import storage
with storage.atomic_write(storage.path(sys.argv[1])) as file, storage.atomic_write(storage.path(sys.argv[1] + ".folder")) as folder:
    file.write_text("half")
    folder.mkdir()
    (folder / "inside").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `out` and `out.folder`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    project = Path(storage.__file__).parents[1]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def new_process():
    """A folder is looked through once by a process, and each test stands for a new one."""
    leftovers.remove.cache_clear()


def write(target: Path) -> None:
    with storage.atomic_write(target) as file:
        file.write_text("new")


def test_what_a_killed_process_has_left_is_removed(tmp_path, writer):
    writer.kill()
    writer.wait()
    left = [path.name for path in tmp_path.iterdir()]
    assert {name.split(".tmp-")[0] for name in left} == {".out", ".out.folder"}
    assert all(f".tmp-{socket.gethostname()}-" in name and f"-{writer.pid}-" in name for name in left)
    write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_another_process_is_writing_is_left_to_it(tmp_path, writer):
    write(tmp_path / "out")
    assert len(list(tmp_path.iterdir())) == 3
    writer.stdin.close()
    assert writer.wait() == 0
    assert (tmp_path / "out").read_text() == "half" and (tmp_path / "out.folder/inside").read_text() == "half"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def gone() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_only_what_is_certainly_abandoned_is_removed(tmp_path, gone):
    here = leftovers.prefix("x").removesuffix(f"{os.getpid()}-")
    kept = [f"{here}{os.getpid()}-0123abcd", f".x.tmp-elsewhere-{gone}-0123abcd", f".x.tmp-{gone}-0123abcd", f"{here}{gone}-0123", "x"]
    kept += [f"{here}99999999-0123abcd", f"{here}{gone}-0123abcd.png", f"x{here}{gone}-0123abcd", ".x.tmp-1"]
    abandoned = [
        f"{here}{gone}-0123abcd",
        f"{here}{gone}-_z0123ab",
        leftovers.prefix("a\nb").replace(str(os.getpid()), str(gone)) + "0" * 8,
    ]
    for name in [*kept, *abandoned]:
        (tmp_path / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{here}{gone}-elsewher").symlink_to("elsewhere")
    leftovers.remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "elsewhere"}


def test_processes_of_another_user_are_running(monkeypatch, tmp_path, gone):
    def kill(process, number):
        raise PermissionError

    file = tmp_path / (leftovers.prefix("x").replace(str(os.getpid()), str(gone)) + "0" * 8)
    file.write_text("")
    monkeypatch.setattr(os, "kill", kill)
    leftovers.remove(tmp_path)
    assert file.exists()


def test_nothing_is_removed_where_there_is_nothing(tmp_path):
    leftovers.remove(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    leftovers.remove(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["x", "果" * 85, "a" * 255, "\udcff" * 200])
def test_temporary_names_fit_beside_the_longest(monkeypatch, name):
    leftovers._processes.cache_clear()
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    prefix = leftovers.prefix(name)
    leftovers._processes.cache_clear()
    assert len(f"{prefix}01234567".encode()) <= 255
    assert f".tmp-{'h' * 64}-" in prefix and f"-{os.getpid()}-" in prefix


PLACER = """
import sys
from pathlib import Path
import sample_data
placed = sample_data._placed(Path(sys.argv[1]))
print(placed.__enter__(), flush=True)
sys.stdin.read()
"""


def test_drawn_pictures_that_a_kill_has_left_are_removed_too(call, tmp_path):
    """They lie in the folder itself, which is empty but for them."""
    command = [sys.executable, "-c", PLACER, str(tmp_path)]
    project = Path(storage.__file__).parents[1]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert Path(killed.stdout.readline().strip()).is_dir()
        killed.kill()
    assert len(list(tmp_path.iterdir())) == 1
    assert call(sample_data.main, "--output_dir", tmp_path, "--n_train", 1, "--n_test", 1, "--size", 32).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["testA", "testB", "trainA", "trainB"]
