"""The drawn picture set: equal for equal seeds, whole or not at all."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import snapshot

import sample_data
from pictures import images
from pictures.fruit import draw
from pictures.scenes import scene
from sample_data import main

SMALL = ("--size", 32, "--n_train", 3, "--n_test", 2)


def test_set_is_a_function_of_the_seed(call, tmp_path):
    for folder, seed in ("a", 5), ("b", 5), ("c", 6):
        assert call(main, "--output_dir", tmp_path / folder, "--seed", seed, *SMALL).status == 0
    a, b, c = (snapshot(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a.keys() == c.keys() and all(a[name] != c[name] for name in a)


def test_longer_set_begins_with_the_shorter(call, tmp_path):
    call(main, "--output_dir", tmp_path / "long", *SMALL)
    call(main, "--output_dir", tmp_path / "short", "--size", 32, "--n_train", 2, "--n_test", 1)
    long, short = snapshot(tmp_path / "long"), snapshot(tmp_path / "short")
    assert len(short) == 6 and short.items() < long.items()


def test_files_sizes_and_summary(call, tmp_path):
    outcome = call(main, "--output_dir", tmp_path / "new" / "fruit", "--size", 36, "--n_train", 2, "--n_test", 1)
    assert outcome.status == 0 and outcome.out.count("\n") == 1 and str(tmp_path / "new" / "fruit") in outcome.out
    assert outcome.err == ""
    names = [f.relative_to(tmp_path / "new" / "fruit").as_posix() for f in images.find(tmp_path / "new" / "fruit")]
    assert names == [f"{name}.png" for name in ("testA/0000", "testB/0000", "trainA/0000", "trainA/0001", "trainB/0000", "trainB/0001")]
    for folder, split in ("trainA", "trainA"), ("trainB", "trainB"), ("testA", "test"), ("testB", "test"):
        picture = images.read(tmp_path / "new" / "fruit" / folder / "0000.png")
        assert picture.shape == (36, 36, 3)
        np.testing.assert_array_equal(picture, draw(scene(0, split, 0), folder[-1], 36))


def test_pairs_are_the_same_scenes_in_both_domains(call, tmp_path):
    """Those of trainA, which stay what they were; the test pictures too."""
    assert call(main, "--output_dir", tmp_path / "unpaired", *SMALL).status == 0
    outcome = call(main, "--output_dir", tmp_path / "paired", *SMALL, "--paired")
    assert (outcome.status, outcome.out) == (0, f"{tmp_path}/paired: 3 training pairs, 2 test pairs, 32×32\n")
    before, after = snapshot(tmp_path / "unpaired"), snapshot(tmp_path / "paired")
    assert before.keys() == after.keys()
    assert {name.split("/")[0] for name in before if before[name] != after[name]} == {"trainB"}
    for index in range(3):
        drawn = scene(0, "trainA", index)
        for domain in "AB":
            np.testing.assert_array_equal(images.read(tmp_path / f"paired/train{domain}/000{index}.png"), draw(drawn, domain, 32))


@pytest.mark.parametrize(
    "flag, value", [("--size", 34), ("--size", 28), ("--size", "big"), ("--n_train", -1), ("--n_train", 0), ("--n_test", 0), ("--seed", -1)]
)
def test_bad_numbers_are_refused(call, tmp_path, flag, value):
    call(main, "--output_dir", tmp_path / "fruit", *SMALL, flag, value).assert_refused(flag, str(value))
    assert not any(tmp_path.iterdir())


def test_what_exists_is_not_replaced_unasked(call, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    file.write_text("sir")
    before = snapshot(tmp_path)
    call(main, "--output_dir", folder, *SMALL).assert_refused("--output_dir", str(folder), "--overwrite")
    call(main, "--output_dir", file, *SMALL, "--overwrite").assert_refused("--output_dir", str(file))
    assert snapshot(tmp_path) == before


def test_overwrite_replaces_its_own_folders_only(call, tmp_path):
    call(main, "--output_dir", tmp_path / "new", *SMALL)
    for name in "letter.txt", "other/trainA.png", "trainA/0009.png", "testB/0000.png":
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text("old")
    assert call(main, "--output_dir", tmp_path / "old", *SMALL, "--overwrite").status == 0
    foreign = {"letter.txt": b"old", "other/trainA.png": b"old"}
    assert snapshot(tmp_path / "old") == snapshot(tmp_path / "new") | foreign
    assert {f.name for f in (tmp_path / "old").iterdir()} == {"letter.txt", "other", *sample_data.FOLDERS}


def test_the_home_folder_can_be_named_by_its_sign(call, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert call(main, "--output_dir", "~/fruit", *SMALL).status == 0
    assert [f.name for f in tmp_path.iterdir()] == ["home"] and (tmp_path / "home/fruit/trainA/0000.png").exists()


def test_a_folder_of_another_machine_is_refused(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(main, "--output_dir", "gs://bucket/fruit", *SMALL).assert_refused("--output_dir gs://bucket/fruit: ", "this machine")
    assert not any(tmp_path.iterdir())


def test_a_terminal_obeys_no_name(call, tmp_path):
    outcome = call(main, "--output_dir", tmp_path / "a\033[2Jb", *SMALL)
    assert outcome.status == 0 and "\033" not in outcome.out and "a\\x1b[2Jb: 3 apples" in outcome.out


def test_an_empty_folder_is_filled(call, tmp_path):
    assert call(main, "--output_dir", tmp_path, *SMALL).status == 0
    assert {f.name for f in tmp_path.iterdir()} == set(sample_data.FOLDERS)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_set_that_fails_leaves_all_as_it_was(call, tmp_path, monkeypatch, overwrite):
    output = tmp_path / "fruit"
    if overwrite:
        call(main, "--output_dir", output, *SMALL, "--seed", 1)
    before, write = sorted(tmp_path.rglob("*")), images.write
    content = snapshot(tmp_path)

    def full(file, picture):
        if file.parent.name == "testB":
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        write(file, picture)

    monkeypatch.setattr(images, "write", full)
    outcome = call(main, "--output_dir", output, *SMALL, *["--overwrite"] * overwrite)
    assert outcome.status == 1 and outcome.err.count("\n") == 1 and "No space left" in outcome.err
    assert sorted(tmp_path.rglob("*")) == before and snapshot(tmp_path) == content


DRAWING = """
import sys
import sample_data
from pictures import images
from system import cli

def write(file, picture):
    print("drawing", flush=True)
    while True:
        pass

images.write = write
sys.exit(cli.run(sample_data.main))
"""


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [(signal.SIGINT, 130, "-c: interrupted\n"), (signal.SIGTERM, 143, "-c: terminated\n"), (signal.SIGKILL, -signal.SIGKILL, "")],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_signal_ends_all_of_it_at_once(tmp_path, ctrl_c_counts, sent, status, words):
    """However many pictures are to come; and no process is left that would hold its output open. Ctrl-C reaches a whole group."""
    command = [sys.executable, "-c", DRAWING, "--output_dir", str(tmp_path / "fruit"), "--n_train", "100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    project = os.path.dirname(sample_data.__file__)
    with subprocess.Popen(command, cwd=project, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout.readline() == "drawing\n"
            os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
            out, err = process.communicate(timeout=20)
        finally:
            with contextlib.suppress(ProcessLookupError):  # whatever a command that fails has left running
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, out, err) == (status, "", words)
    assert sent == signal.SIGKILL or not any(tmp_path.iterdir())
