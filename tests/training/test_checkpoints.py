"""Checkpoints: whole or not there, the newest five and milestones, and the way back when one is damaged."""

import gc
import os
import resource
import signal
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import snapshot

from system import storage
from system.cli import InputError
from system.storage import RemotePath
from training import checkpoints
from training.checkpoints import Checkpoints, find, read_parts
from training.config import Config
from training.run_folder import new_run


class Model(tf.Module):
    def __init__(self, *shape: int):
        super().__init__()
        self.weights = tf.Variable(tf.zeros(shape or [3]))
        self.step = tf.Variable(0)

    def train_to(self, step: int) -> "Model":
        self.weights.assign(tf.fill(self.weights.shape, float(step)))
        self.step.assign(step)
        return self


def saved(run: Path, *steps: int, keep_every: int | None = None) -> Checkpoints:
    """A run folder with checkpoints of these steps, saved in this order."""
    model = Model()
    run_checkpoints = Checkpoints(run, model, keep_every)
    for step in steps:
        model.train_to(step)
        run_checkpoints.save(step)
    return run_checkpoints


def restored(run: Path) -> tuple[Model, int, list[int]]:
    model = Model()
    return model, *Checkpoints(run, model).restore()


def test_what_is_saved_is_restored(tmp_path):
    saved(tmp_path, 3, 7)
    model, step, damaged = restored(tmp_path)
    assert (step, damaged) == (7, [])
    assert model.weights.numpy().tolist() == [7, 7, 7] and model.step.numpy() == 7


@pytest.mark.parametrize("name", ["[try 2]", "a*b?c", "back\\slash", "[", "[!a]", "{a,b} ]"])
def test_a_folder_can_have_any_name(tmp_path, monkeypatch, name):
    """TensorFlow takes the names of folders for patterns when it reads, not when it writes."""
    run = tmp_path / name / name
    run.mkdir(parents=True)
    saved(run, 3, 7)
    monkeypatch.chdir(tmp_path)
    for folder in (run, Path(name, name)):
        model, step, damaged = restored(folder)
        assert (step, damaged, model.step.numpy()) == (7, [], 7)
        part = tf.Variable(0)
        read_parts(find("--init_from", folder), step=part)
        assert part.numpy() == 7 and find("--init_from", folder / "model.ckpt-3") == str(folder / "model.ckpt-3")
    (run / "model.ckpt-7.index").write_bytes(b"")
    assert restored(run)[1:] == (3, [7])


def test_on_remote_storage_no_run_begins_where_it_could_not_be_continued():
    with pytest.raises(InputError, match=r"ram://b/\[x\]: TensorFlow takes .* for patterns; use another name"):
        new_run(RemotePath("ram://b"), "[x]", Config(), {})
    assert not RemotePath("ram://b/[x]").exists()


def test_without_a_checkpoint_the_model_is_left_as_it_is(tmp_path):
    model = Model().train_to(5)
    assert Checkpoints(tmp_path, model).restore() == (0, [])
    assert model.step.numpy() == 5
    assert Checkpoints(tmp_path, model).newest is None


def test_a_checkpoint_is_two_files_and_tensorflow_finds_the_newest(tmp_path):
    saved(tmp_path, 9, 10)
    names = [f"model.ckpt-{step}.{suffix}" for step in (10, 9) for suffix in ("data-00000-of-00001", "index")]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint", *names]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-10")
    assert tf.train.get_checkpoint_state(str(tmp_path)).all_model_checkpoint_paths == [str(tmp_path / f"model.ckpt-{s}") for s in (9, 10)]


def test_the_newest_five_are_kept(tmp_path):
    assert saved(tmp_path, *range(8, 15)).steps() == [10, 11, 12, 13, 14]
    assert len(list(tmp_path.glob("model.ckpt-*"))) == 10


def test_milestones_stay(tmp_path):
    assert saved(tmp_path, *range(1, 14), keep_every=3).steps() == [3, 6, 9, 10, 11, 12, 13]


def test_milestones_of_before_stay_when_keep_every_changes(tmp_path):
    saved(tmp_path, *range(1, 8), keep_every=2)
    run_checkpoints = Checkpoints(tmp_path, Model(), keep_every=5)
    for step in range(8, 14):
        run_checkpoints.save(step)
    assert run_checkpoints.steps() == [2, 5, 9, 10, 11, 12, 13]


def test_the_best_stays_until_another_is(tmp_path):
    run_checkpoints = saved(tmp_path, 1, 2, 3)
    run_checkpoints.keep_as_best(2)
    for step in range(4, 10):
        run_checkpoints.save(step)
    assert run_checkpoints.steps() == [2, 5, 6, 7, 8, 9]
    run_checkpoints.keep_as_best(9)
    assert run_checkpoints.steps() == [5, 6, 7, 8, 9]
    assert "model.ckpt-2" not in (tmp_path / "checkpoint").read_text()
    assert Checkpoints(tmp_path, Model(), best=5).best == 5


def test_a_milestone_that_was_the_best_stays(tmp_path):
    run_checkpoints = saved(tmp_path, 1, 2, keep_every=2)
    run_checkpoints.keep_as_best(2)
    for step in range(3, 9):
        run_checkpoints.save(step)
    run_checkpoints.keep_as_best(7)
    assert run_checkpoints.steps() == [2, 4, 5, 6, 7, 8]


def test_parts_are_restored_and_what_does_not_fit_is_one_error(tmp_path, caplog):
    """And no warning by TensorFlow for every value that was not asked for."""
    saved(tmp_path, 3)
    part = tf.Variable(tf.zeros(3))
    read_parts(str(tmp_path / "model.ckpt-3"), weights=part)
    assert part.numpy().tolist() == [3, 3, 3]
    for wrong in ({"weights": tf.Variable(tf.zeros(4))}, {"others": part}):
        with pytest.raises(InputError, match="model.ckpt-3: damaged, or does not fit"):
            read_parts(str(tmp_path / "model.ckpt-3"), **wrong)
    data = tmp_path / "model.ckpt-3.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(InputError, match="model.ckpt-3: damaged, or does not fit"):
        read_parts(str(tmp_path / "model.ckpt-3"), weights=part)
    gc.collect()
    assert caplog.messages == []


@pytest.mark.parametrize("killed_at", ["write", "replace data", "replace index", "state", "unlink"])
def test_at_no_moment_is_there_no_complete_checkpoint(tmp_path, monkeypatch, killed_at):
    """The process dies at each stage of a save: what it leaves behind can be gone on from."""

    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    run_checkpoints = saved(tmp_path, 1, 2, 3, 4, 5)
    run_checkpoints.checkpoint.model.train_to(6)
    real_replace = os.replace

    def replace(source, target):
        if str(target).endswith("index" if killed_at == "replace index" else "0001"):
            die()
        real_replace(source, target)

    monkeypatch.setattr(storage, "remove", lambda path: None)  # a killed process cleans nothing up
    if killed_at == "write":
        monkeypatch.setattr(checkpoints, "_sync", die)
    elif killed_at.startswith("replace"):
        monkeypatch.setattr(os, "replace", replace)
    elif killed_at == "state":
        monkeypatch.setattr(Checkpoints, "_write_state", die)
    else:
        monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(Killed):
        run_checkpoints.save(6)
    monkeypatch.undo()

    expected = 5 if killed_at in ("write", "replace data", "replace index") else 6
    model, step, damaged = restored(tmp_path)
    assert (step, damaged) == (expected, [])
    assert model.weights.numpy().tolist() == [expected] * 3
    assert not list(tmp_path.glob(".saving-*"))
    assert {f.name.split(".")[1] for f in tmp_path.glob("model.ckpt-*")} == {f"ckpt-{s}" for s in Checkpoints(tmp_path, model).steps()}
    Checkpoints(tmp_path, model.train_to(7)).save(7)
    assert restored(tmp_path)[1] == 7


def test_files_are_on_the_disk_before_they_take_their_names(tmp_path, monkeypatch):
    """After a power cut there must be no name without its content."""
    done, real = [], {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor):
        done.append(("fsync", Path(f"/proc/self/fd/{descriptor}").resolve().name))
        real["fsync"](descriptor)

    def replace(source, target):
        done.append(("replace", Path(target).name))
        real["replace"](source, target)

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    saved(tmp_path, 3)
    data, index = "model.ckpt-3.data-00000-of-00001", "model.ckpt-3.index"
    expected = [("fsync", data), ("fsync", index), ("replace", data), ("replace", index), ("fsync", tmp_path.name)]
    assert done[:5] == expected


def harm(file: Path, damage: str) -> None:
    content = bytearray(file.read_bytes())
    content[3] ^= 255
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"flip": bytes(content), "cut": content[:-9], "empty": b""}[damage])


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, suffix, damage):
    saved(tmp_path, 1, 2, 3)
    file = tmp_path / f"model.ckpt-3.{suffix}"
    harm(file, damage)
    model, step, damaged = restored(tmp_path)
    assert step == 2 and model.weights.numpy().tolist() == [2, 2, 2]
    if (suffix, damage) == ("index", "missing"):  # then it was never complete
        assert damaged == [] and not list(tmp_path.glob("model.ckpt-3*"))
    else:
        assert damaged == [3] and all(f.name.endswith(".damaged") for f in tmp_path.glob("model.ckpt-3*"))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-2")
    Checkpoints(tmp_path, model.train_to(3)).save(3)
    assert restored(tmp_path)[1:] == (3, [])


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_who_only_reads_takes_the_newest_whole_checkpoint_and_changes_nothing(tmp_path, capsys, suffix, damage):
    saved(tmp_path, 1, 2, 9, 10)
    assert find("--flag", tmp_path) == f"{tmp_path}/model.ckpt-10" and capsys.readouterr().err == ""
    for step, others in ((10, "checkpoint of step 10 is"), (9, "checkpoints of steps 10, 9 are")):
        file = tmp_path / f"model.ckpt-{step}.{suffix}"
        harm(file, damage)
        before, good = snapshot(tmp_path), 9 if step == 10 else 2
        assert find("--flag", tmp_path) == f"{tmp_path}/model.ckpt-{good}"
        assert capsys.readouterr().err == f"{tmp_path}: the {others} damaged or not all there; that of step {good} is taken\n"
        with pytest.raises(InputError, match=f"^--flag {tmp_path}/model.ckpt-{step}: damaged, or not all there; name another checkpoint"):
            find("--flag", tmp_path / f"model.ckpt-{step}.index")
        assert snapshot(tmp_path) == before
    assert find("--flag", tmp_path / "model.ckpt-1") == find("--flag", tmp_path / "model.ckpt-1.index") == f"{tmp_path}/model.ckpt-1"


@pytest.mark.parametrize(
    "state", [None, "", "no state", 'model_checkpoint_path: "model.ckpt-1"', 'model_checkpoint_path: "/gone/model.ckpt-9"']
)
def test_the_newest_is_found_without_the_file_that_names_it(tmp_path, state):
    saved(tmp_path, 1, 2)
    (tmp_path / "checkpoint").unlink()
    if state is not None:
        (tmp_path / "checkpoint").write_text(state)
    assert find("--flag", tmp_path) == f"{tmp_path}/model.ckpt-2"


def test_where_no_checkpoint_can_be_read_none_is_found(tmp_path):
    with pytest.raises(
        InputError, match=f"^--flag {tmp_path}: no checkpoint in this run yet; name another run, or train this one until it has saved$"
    ):
        find("--flag", tmp_path)
    saved(tmp_path, 1, 2)
    (tmp_path / "model.ckpt-1.index").unlink()
    (tmp_path / "model.ckpt-2.index").write_bytes(b"")
    with pytest.raises(InputError, match=rf"^--flag {tmp_path}: its checkpoints are damaged, all of them \(2, 1\); name another run$"):
        find("--flag", tmp_path)


def test_if_all_are_damaged_nothing_is_touched(tmp_path):
    saved(tmp_path, 1, 2)
    for file in tmp_path.glob("*.data*"):
        file.write_bytes(b"")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"damaged, all of them \(1, 2\)"):
        restored(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    saved(tmp_path, 1)
    before = snapshot(tmp_path)
    for other in (Model(4), tf.Module()):
        with pytest.raises(InputError, match="model.ckpt-1: made by other settings"):
            Checkpoints(tmp_path, other).restore()
    assert snapshot(tmp_path) == before


def test_what_the_user_puts_beside_the_checkpoints_is_left_alone(tmp_path):
    saved(tmp_path, 1)
    mine = {"model.ckpt-best.index": b"1", "model.ckpt-best.data-00000-of-00001": b"2", "notes.txt": b"3"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    restored(tmp_path)
    saved(tmp_path, *range(2, 9))
    assert {name: (tmp_path / name).read_bytes() for name in mine} == mine


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path):
    """A limit on the size of files is a full disk to whoever writes."""
    model = Model(1000)
    Checkpoints(tmp_path, model.train_to(1)).save(1)
    before = snapshot(tmp_path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises((OSError, tf.errors.OpError), match="File too large"):
            Checkpoints(tmp_path, model.train_to(2)).save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    run_checkpoints = Checkpoints(tmp_path / "gone", Model())
    with pytest.raises(FileNotFoundError):
        run_checkpoints.save(1)
    assert not (tmp_path / "gone").exists()


# --- remote storage


def test_on_remote_storage_a_checkpoint_that_cannot_be_reached_is_not_taken_for_damaged(monkeypatch):
    run = RemotePath("ram://checkpoints/run")
    run.mkdir()
    run_checkpoints = saved(run, *range(1, 8))
    assert run_checkpoints.steps() == [3, 4, 5, 6, 7]
    assert tf.train.get_checkpoint_state(str(run)).model_checkpoint_path == f"{run}/model.ckpt-7"
    model, step, damaged = restored(run)
    assert (step, damaged) == (7, []) and model.step.numpy() == 7

    data = run / "model.ckpt-7.data-00000-of-00001"
    content = data.read_bytes()
    data.unlink()  # ram:// would write behind what is there
    data.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with monkeypatch.context() as unreachable:

        def no_answer(file):
            raise OSError("no answer")

        unreachable.setattr(RemotePath, "read_bytes", no_answer)
        with pytest.raises(OSError, match="no answer"):
            restored(run)
    assert run_checkpoints.steps() == [3, 4, 5, 6, 7]

    model, step, damaged = restored(run)
    assert (step, damaged) == (6, [7]) and model.step.numpy() == 6
    assert run_checkpoints.steps() == [3, 4, 5, 6] and data.with_name(f"{data.name}.damaged").exists()
