"""Training: what a run leaves behind, and that nothing is lost whatever stops it."""

import errno
import io
import json
import os
import resource
import runpy
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import standin
import tensorflow as tf
from conftest import TINY_RUN, divide, draw, snapshot
from kills import compare, scalars, tensors
from sabotage import builder
from standin import OneWeight, one_convolution, small_networks
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import export_graph
import model
import reader as reader_module
import train
from formats import model_files
from pictures import images
from quality import held_out
from system import cli, devices, signals, storage
from system.workers import Workers
from training import health, journal, loop, run_folder
from training.checkpoints import Checkpoints
from training.config import Config


@pytest.fixture
def at_log(monkeypatch):
    """`at_log(step, act)` lets something happen after the scalars of a step are written."""

    def at_log(step: int, act) -> None:
        plain = journal.Journal.log

        def log(self, now, losses):
            plain(self, now, losses)
            if now == step:
                act()

        monkeypatch.setattr(journal.Journal, "log", log)

    return at_log


@pytest.fixture
def stop_at(at_log):
    """`stop_at(step, signal)` sends this process a signal after the scalars of a step are written."""
    return lambda step, *signals: at_log(step, lambda: [os.kill(os.getpid(), number) for number in signals])


@pytest.fixture
def stand_in(monkeypatch):
    """Runs train a model of one weight."""
    monkeypatch.setattr(train, "build_model", standin.build_model)


@pytest.fixture(scope="module")
def stand_in_run(tmp_path_factory, records) -> Path:
    """The folder of a finished run of a model of one weight."""
    folder = tmp_path_factory.mktemp("stand_in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_model", standin.build_model)
        assert cli.run(train.main, [*records, *TINY_RUN, "--checkpoints_dir", str(folder), "--run_name", "small"]) == cli.DONE
    return folder / "small"


@pytest.fixture
def small_run(stand_in, stand_in_run, tmp_path) -> Path:
    """A copy of that run, to be gone on with."""
    return shutil.copytree(stand_in_run, tmp_path / "copied")


@pytest.fixture
def copied_run(trained_run, tmp_path) -> Path:
    """A copy of the finished tiny run, to be gone on with."""
    return shutil.copytree(trained_run, tmp_path / "copied")


def history(run: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(line["event"], line["step"]) for line in lines]


def checkpoint_steps(run: Path) -> list[int]:
    return Checkpoints(run, tf.Module()).steps()


# --- what a run leaves behind


def test_a_run_leaves_its_settings_and_its_checkpoints(trained_run):
    assert Config.load(trained_run) == Config(
        X=Config.load(trained_run).X, Y=Config.load(trained_run).Y, image_size=32, ngf=2, ndf=2, n_res_blocks=1, pool_size=2,
        lambda_identity=0, ema=0.9, precision="float32", max_steps=6, log_every=2, image_every=3, save_every=4, keep_every=5,
    )  # fmt: skip
    assert checkpoint_steps(trained_run) == [4, 5, 6]
    assert tf.train.latest_checkpoint(str(trained_run)) == str(trained_run / "model.ckpt-6")
    assert tensors(trained_run, 6)["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == 6
    assert history(trained_run) == [("started", 0), ("finished", 6)]


def test_tensorboard_gets_the_chapters_tags_when_they_are_due(trained_run):
    events = EventAccumulator(str(trained_run), {"tensors": 0}).Reload()
    steps = {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    names = [f"{G}_{kind}" for G in "GF" for kind in ("brightness", "variety", "change")] + ["D_X_loss", "D_Y_loss"]
    scalars = [f"network_health/{name}" for name in names] + ["loss/G", "loss/F", "loss/D_X", "loss/D_Y", "loss/cycle", "learning_rate"]
    pictures = [f"{domain}/{kind}" for domain in "XY" for kind in ("1_input", "generated", "reconstruction")]
    histograms = [f"D_{domain}/{kind}" for domain in "XY" for kind in ("true", "fake")]
    assert steps == {tag: [1, 2, 4, 6] for tag in scalars} | {tag: [1, 3, 6] for tag in pictures + histograms}
    size = tf.io.decode_image(tf.make_ndarray(events.Tensors("X/generated")[0].tensor_proto)[2]).shape
    assert size == (32, 32, 3)
    rates = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("learning_rate")]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 2e-4 / 3])  # of the step's start: 0, 1, 3, 5, falling from 3 on


# --- stops, and going on


@pytest.mark.long
def test_a_stopped_run_continues_as_if_it_had_not_been_stopped(call, trained_run, records, tmp_path, stop_at, eager):
    stop_at(2, signal.SIGTERM)
    assert call(train.main, *records, *TINY_RUN, "--checkpoints_dir", tmp_path, "--run_name", "cut").status == cli.TERMINATED
    assert call(train.main, "--load_model", "cut", "--checkpoints_dir", tmp_path, "--image_every", 100).status == cli.DONE
    assert compare(trained_run, tmp_path / "cut", 6, every=2) == []
    assert history(tmp_path / "cut") == [("started", 0), ("stopped", 2), ("continued", 2), ("finished", 6)]
    continued = json.loads((tmp_path / "cut" / "history.jsonl").read_text().splitlines()[2])
    assert continued["changed"] == {"image_every": [3, 100]}
    assert Config.load(tmp_path / "cut").image_every == 100


def test_a_run_goes_on_with_the_shards_of_its_data(call, small_run, records, tmp_path):
    """They give the same batches: tests/test_reader.py."""
    X, Y = divide(Path(records[1]), tmp_path / "red", 2, 2, 1), divide(Path(records[3]), tmp_path / "blue", 2, 1)
    pattern = str(tmp_path / "blue-*")
    outcome = call(train.main, "--load_model", small_run, "--X", X, "--Y", pattern, "--max_steps", 7)
    assert outcome.status == cli.DONE and "5 + 3 pictures, steps 6 to 7" in outcome.out
    assert {"X": X, "Y": pattern}.items() <= vars(Config.load(small_run)).items()
    changed = json.loads((small_run / "history.jsonl").read_text().splitlines()[2])["changed"]
    assert changed == {"X": [records[1], X], "Y": [records[3], pattern], "max_steps": [6, 7]}
    call(train.main, "--load_model", small_run, "--Y", Y.replace("@2", "@3")).assert_refused("blue-00000-of-00003 is missing")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_go_on(call, small_run, stop_at, number, status, monkeypatch):
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: signal.SIG_DFL)  # as if not under nohup, which the tests may be
    stop_at(7, number)
    outcome = call(train.main, "--load_model", small_run, "--max_steps", 20)
    assert outcome.status == status
    assert outcome.err.splitlines()[-1] == f"stopped and saved at step 7; continue with: python train.py --load_model {small_run}"
    assert checkpoint_steps(small_run) == [4, 5, 6, 7]


@pytest.mark.long
def test_after_a_damaged_checkpoint_the_one_before_is_gone_on_from(call, trained_run, copied_run, eager):
    """Steps 5 and 6 are done twice: TensorBoard must show them once."""
    for step in (5, 6):
        data = copied_run / f"model.ckpt-{step}.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:-1] + b"?")
    outcome = call(train.main, "--load_model", copied_run)
    assert outcome.status == cli.DONE
    assert outcome.err.count("is damaged and set aside; that of step 4 is taken") == 2
    assert compare(trained_run, copied_run, 6, every=2) == []
    steps = {tag: [step for step, _ in values] for tag, values in scalars(copied_run).items()}
    assert steps["loss/G"] == [1, 2, 4, 5, 6]  # 5 is the first after the start


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(call, small_run):
    for file in (small_run / "checkpoint", *small_run.glob("*ckpt*")):
        file.unlink()
    (small_run / ".saving-4").mkdir()
    begun = (small_run / "history.jsonl").read_text().splitlines()[0]
    lost = [("X 3", 5, {"says": "left out"}), ("stopped", 5, {"why": "loss/G not finite"}), ("continued", 0, {})]  # nothing was saved then
    lines = [json.dumps({"event": event, "step": step, **more}) for event, step, more in lost]
    (small_run / "history.jsonl").write_text("\n".join([begun, *lines, '{"half', ""]))
    assert call(train.main, "--load_model", small_run).status == cli.DONE
    assert checkpoint_steps(small_run) == [4, 5, 6]
    assert not (small_run / ".saving-4").exists()


@pytest.mark.parametrize("left", ["history", "damaged", "list"])
def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(call, small_run, left):
    for file in small_run.glob("model.ckpt*"):
        file.rename(f"{file}.damaged") if left == "damaged" else file.unlink()
    (small_run / ("history.jsonl" if left == "list" else "checkpoint")).unlink()
    before = snapshot(small_run)
    words = "its checkpoints are gone;" if left == "list" else "its checkpoints are gone, the last one of step 6;"
    call(train.main, "--load_model", small_run).assert_refused(f"{small_run}: {words} put them back, or begin anew", "--run_name")
    assert snapshot(small_run) == before


def test_a_signal_in_a_save_waits_for_its_end(call, small_run, monkeypatch):
    save = Checkpoints.save

    def interrupted(self, step):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        save(self, step)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    outcome = call(train.main, "--load_model", small_run, "--max_steps", 20, "--save_every", 7)
    assert outcome.status == cli.INTERRUPTED
    assert "stopped and saved at step 7" in outcome.err
    assert checkpoint_steps(small_run)[-1] == 7


def test_a_finished_run_is_left_as_it_is(call, small_run):
    before = snapshot(small_run)
    outcome = call(train.main, "--load_model", small_run)
    assert outcome.status == cli.DONE
    assert "trained to step 6" in outcome.out
    assert {k: v for k, v in snapshot(small_run).items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_an_end_that_lies_behind_is_refused(call, small_run):
    call(train.main, "--load_model", small_run, "--max_steps", 3).assert_refused("step 6", "step 3", "--max_steps")


def test_a_second_process_on_a_run_is_refused(call, small_run):
    with run_folder.locked(small_run):
        before = snapshot(small_run)
        call(train.main, "--load_model", small_run, "--max_steps", 9).assert_refused(str(small_run), f"process {os.getpid()}")
        assert snapshot(small_run) == before


# --- beginning with another run's networks


NETWORKS, AVERAGES = ["G", "F", "D_X", "D_Y"], ["G_ema", "F_ema"]


def restored(run: Path, step: int) -> model.CycleGAN:
    """A run's model at a step."""
    cyclegan = model.CycleGAN(Config.load(run))
    tf.train.Checkpoint(model=cyclegan).read(str(run / f"model.ckpt-{step}")).assert_consumed()
    return cyclegan


def same(one: keras.Model, other: keras.Model) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all([np.array_equal(*pair) for pair in pairs])


@pytest.mark.long
def test_a_run_begins_with_the_networks_of_another(call, trained_run, records, tmp_path, eager):
    source = shutil.copytree(trained_run, tmp_path / "source")
    flags = ["--checkpoints_dir", tmp_path, "--init_from", "source", "--image_size", 36, "--ema", 0.5, "--pool_size", 0]
    outcome = call(train.main, *records, *flags, "--run_name", "second", "--max_steps", 1)
    assert outcome.status == cli.DONE
    assert f"begins with the networks of {source}/model.ckpt-6" in outcome.out
    config = Config.load(tmp_path / "second")
    assert (config.ngf, config.ndf, config.n_res_blocks) == (2, 2, 1)
    assert (config.init_from, config.image_size, config.learning_rate) == (f"{source}/model.ckpt-6", 36, 2e-4)
    assert checkpoint_steps(tmp_path / "second") == [0, 1]
    begun, theirs = restored(tmp_path / "second", 0), restored(source, 6)
    assert [name for name in NETWORKS + AVERAGES if not same(getattr(begun, name), getattr(theirs, name))] == []
    assert begun.step == 0 and begun.generator_optimizer.iterations == 0
    assert not same(begun.G, begun.G_ema)

    shutil.rmtree(source)  # it goes on by itself, whether the flag is typed again or not
    for end, again in ((2, flags[:4]), (3, flags[:2])):
        assert call(train.main, "--load_model", "second", *again, "--max_steps", end).status == cli.DONE
    call(train.main, "--load_model", "second", *flags[:2], "--init_from", "third").assert_refused("--init_from third", "(the run has")


def test_a_run_killed_before_its_first_checkpoint_begins_again_with_those_networks(call, records, tmp_path, monkeypatch, eager):
    small_networks(monkeypatch)
    folder = ["--checkpoints_dir", tmp_path]
    assert call(train.main, *records, *TINY_RUN, *folder, "--run_name", "source", "--max_steps", 2, "--save_every", 1).status == cli.DONE
    train_it = train.train
    monkeypatch.setattr(train, "train", lambda *args, **kwargs: cli.DONE)  # killed before its first checkpoint
    flags = [*folder, "--image_size", 32, "--pool_size", 1, "--precision", "float32", "--run_name", "second", "--max_steps", 1]
    assert call(train.main, *records, *flags, "--init_from", "source/model.ckpt-1").status == cli.DONE
    assert checkpoint_steps(tmp_path / "second") == []
    monkeypatch.setattr(train, "train", train_it)
    assert call(train.main, "--load_model", "second", *folder).status == cli.DONE
    begun, theirs = restored(tmp_path / "second", 0), restored(tmp_path / "source", 1)
    assert [name for name in NETWORKS + AVERAGES if not same(getattr(begun, name), getattr(theirs, name))] == []
    assert not same(begun.G, restored(tmp_path / "source", 2).G)

    shutil.rmtree(tmp_path / "source")  # from now on it is not needed
    assert call(train.main, "--load_model", "second", *folder, "--max_steps", 2).status == cli.DONE


@pytest.mark.parametrize(
    ("source", "flags", "words"),
    [
        ("nowhere", [], ["--init_from nowhere", "no such run"]),
        ("copied/model.ckpt-5", [], ["copied/model.ckpt-5", "no such run"]),
        ("copied", ["--ngf", 4, "--ndf", 2, "--recipe", "chapter"], ["--upsample transpose (it has resize), --ngf 4 (it has 2): "]),
        ("empty", [], ["empty: no checkpoint in this run yet"]),
        ("other", [], ["model.ckpt-6", "does not fit"]),
    ],
)
def test_networks_that_cannot_be_begun_with_are_refused(call, copied_run, records, tmp_path, source, flags, words):
    for file in copied_run.glob("model.ckpt-5.*"):
        file.unlink()
    settings = json.loads((copied_run / "config.json").read_text())
    for name, blocks in (("other", 2), ("empty", 1)):
        other = shutil.copytree(copied_run, tmp_path / name)
        (other / "config.json").write_text(json.dumps(settings | {"n_res_blocks": blocks}))
    for file in (tmp_path / "empty").glob("model.ckpt-*"):
        file.unlink()
    before = snapshot(tmp_path)
    flags = ["--checkpoints_dir", tmp_path, "--image_size", 32, *flags]
    call(train.main, *records, *flags, "--init_from", source).assert_refused(*words)
    assert snapshot(tmp_path) == before


def test_networks_are_those_of_the_newest_checkpoint_that_is_whole(call, copied_run, monkeypatch):
    begun = []
    monkeypatch.setattr(train, "start", lambda workers, folder, name, config, *more: begun.append(config.init_from))
    data = copied_run / "model.ckpt-6.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-9])
    flags = ["--checkpoints_dir", copied_run.parent, "--init_from"]
    outcome = call(train.main, *flags, copied_run.name)
    assert outcome.status == cli.DONE and begun == [f"{copied_run}/model.ckpt-5"]
    assert outcome.err == f"{copied_run}: the checkpoint of step 6 is damaged or not all there; that of step 5 is taken\n"
    call(train.main, *flags, f"{copied_run.name}/model.ckpt-6").assert_refused(f"--init_from {copied_run}/model.ckpt-6: damaged, or not")
    assert len(begun) == 1


# --- what goes wrong on the way


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(call, small_run):
    before = {name: content for name, content in snapshot(small_run).items() if "ckpt" in name}
    outcome = call(train.main, "--load_model", small_run, "--learning_rate", 1e30, "--max_steps", 20, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    line = outcome.err.splitlines()[-1]
    for word in ("loss/G", "not a finite number since step 8", "step 7 is intact", "--load_model", "--learning_rate 0.0002"):
        assert word in line
    after = {name: content for name, content in snapshot(small_run).items() if "ckpt" in name}
    assert before.items() <= after.items()
    assert checkpoint_steps(small_run) == [4, 5, 6, 7]
    assert history(small_run)[-1] == ("stopped", 8)


def test_weights_that_are_not_finite_are_not_saved(call, small_run, at_log, monkeypatch):
    """A gradient can be infinite where the loss is not yet."""
    models: list[OneWeight] = []
    monkeypatch.setattr(train, "build_model", lambda *args, **kwargs: models.append(standin.build_model(*args, **kwargs)) or models[0])
    at_log(7, lambda: models[0].weight.assign(np.nan))
    outcome = call(train.main, "--load_model", small_run, "--max_steps", 20, "--save_every", 7)
    assert outcome.status == cli.PARTIAL
    assert "the networks' weights: not a finite number since step 7" in outcome.err
    assert checkpoint_steps(small_run) == [4, 5, 6]


class Broken(io.StringIO):
    """A stream that nobody reads any more, or whose disk is full."""

    def __init__(self, error: int):
        super().__init__()
        self.error = error

    def write(self, text=""):
        raise OSError(self.error, os.strerror(self.error))

    flush = write


@pytest.mark.parametrize(("error", "status"), [(errno.EPIPE, cli.DONE), (errno.EIO, cli.DONE), (errno.ENOSPC, cli.PARTIAL)])
def test_a_run_whose_words_cannot_be_printed_loses_nothing(small_run, monkeypatch, error, status):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert cli.run(train.main, ["--load_model", str(small_run), "--max_steps", "8"]) == status
    assert checkpoint_steps(small_run)[-1] == 8 and history(small_run)[-1] == ("finished", 8)


def fill_the_disk() -> None:
    """A limit on the size of files is a full disk to whoever writes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def disk():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_in_one_line_and_the_older_checkpoint_is_usable(call, small_run, at_log, disk):
    at_log(7, fill_the_disk)
    outcome = call(train.main, "--load_model", small_run, "--max_steps", 12, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    assert outcome.err.splitlines()[-1].startswith(f"{Path(sys.argv[0]).name}: {small_run}: cannot be written at step 7 (File too large). ")
    assert "The checkpoint of step 6 is intact; go on with: python train.py --load_model" in outcome.err
    assert "Traceback" not in outcome.err
    assert checkpoint_steps(small_run) == [4, 5, 6] and not list(small_run.glob(".saving*"))


def test_a_run_folder_that_vanishes_ends_in_one_line(call, small_run, at_log):
    at_log(7, lambda: shutil.rmtree(small_run))
    outcome = call(train.main, "--load_model", small_run, "--max_steps", 12, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    assert f"{small_run}: cannot be written at step 7 (No such file or directory). The folder is gone" in outcome.err.splitlines()[-1]
    assert not small_run.exists()


def test_a_record_that_rots_stops_the_run_or_is_left_out(call, stand_in, records, tmp_path):
    X = Path(shutil.copy(records[1], tmp_path / "rotten.tfrecords"))
    data = bytearray(X.read_bytes())
    data[-100] ^= 1
    X.write_bytes(data)
    flags = ["--X", X, *records[2:], *TINY_RUN, "--checkpoints_dir", tmp_path, "--run_name", "run"]
    outcome = call(train.main, *flags)
    assert outcome.status == cli.PARTIAL
    line = outcome.err.splitlines()[-1]
    step = int(line.split("Saved at step ")[1].split(";")[0])
    for word in (f"{X}: record 4 (counted from 0)", "--skip_bad_records", f"--load_model {tmp_path / 'run'}"):
        assert word in line
    assert step < 5 and checkpoint_steps(tmp_path / "run") == [step]

    outcome = call(train.main, "--load_model", "run", "--checkpoints_dir", tmp_path, "--skip_bad_records")
    assert outcome.status == cli.DONE
    assert outcome.err.count("record 4 (counted from 0): damaged or cut off; left out") == 1
    assert scalars(tmp_path / "run")["data/skipped_records"][-1] == (6, 1.0)


@pytest.mark.parametrize(
    ("kinds", "reported", "not_reported"),
    [
        ("invert,copy", ["G_inverts", "F_copies"], ["F_inverts", "G_copies", "G_collapses", "F_collapses"]),
        ("collapse", ["G_collapses"], ["G_copies"]),
    ],
)
def test_generators_that_go_wrong_are_reported(call, records, tmp_path, monkeypatch, eager, kinds, reported, not_reported):
    monkeypatch.setattr(model, "build_generator", builder(kinds))
    monkeypatch.setattr(model, "build_discriminator", lambda config, name: one_convolution(1, 8, 8, config.norm, name))
    monkeypatch.setattr(health, "WARM_UP", 4)
    flags = ["--image_size", 32, "--precision", "float32", "--pool_size", 0, "--log_every", 2, "--image_every", 8, "--max_steps", 8]
    outcome = call(train.main, *records, *flags, "--checkpoints_dir", tmp_path, "--run_name", "run")
    assert outcome.status == cli.DONE
    events = [event for event, _ in history(tmp_path / "run")]
    assert set(reported) <= set(events) and not set(not_reported) & set(events)
    assert len(set(events)) == len(events)  # each of them once, though they are due at 4, 6 and 8
    assert outcome.err.count("warning: G") == sum(event.startswith("G_") for event in events)
    assert all(f"network_health/{topic}" in tags(tmp_path / "run") for topic in reported)


def tags(run: Path) -> list[str]:
    return EventAccumulator(str(run), {"tensors": 0}).Reload().Tags()["tensors"]


# --- wrong input


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ngf", 4, "--norm", "batch"], ["--ngf 4 (the run has 2)", "--norm batch (the run has instance)"]),
        (["--image_size", 64], ["--image_size 64 (the run has 32)"]),
        (["--precision", "bfloat16"], ["--precision bfloat16 (the run has float32)"]),
        (["--Y", "{X}", "--ngf", 4], ["--ngf 4 (the run has 2)", "--Y {X}: 5 records", "(the run has 3 records"]),
        (["--run_name", "other"], ["--run_name other", "--load_model"]),
        (["--X", "missing.tfrecords"], ["missing.tfrecords", "no such file"]),
    ],
)
def test_what_contradicts_the_run_is_refused(call, stand_in_run, records, flags, words):
    before = snapshot(stand_in_run)
    flags, words = ([str(word).replace("{X}", records[1]) for word in some] for some in (flags, words))
    call(train.main, "--load_model", stand_in_run, *flags).assert_refused(*words)
    assert snapshot(stand_in_run) == before


def test_a_run_that_cannot_be_continued_is_refused(call, small_run, tmp_path):
    call(train.main, "--load_model", "nowhere", "--checkpoints_dir", tmp_path).assert_refused("--load_model nowhere", "no such run")
    settings = json.loads((small_run / "config.json").read_text())
    (small_run / "config.json").write_text(json.dumps(settings | {"ngf": 3}))
    call(train.main, "--load_model", small_run).assert_refused("model.ckpt-6", "other settings")


def test_auto_becomes_the_number_type_that_the_run_keeps(call, stand_in, records, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *args, **kwargs: cli.DONE)
    monkeypatch.setattr(devices, "native_precision", lambda: "bfloat16")
    folder, auto = ["--checkpoints_dir", tmp_path], ["--precision", "auto"]
    at = TINY_RUN.index("--precision")
    assert call(train.main, *records, *TINY_RUN[:at], *TINY_RUN[at + 2 :], *folder, "--run_name", "run").status == cli.DONE  # the default
    assert call(train.main, *records, *TINY_RUN, *auto, *folder, "--run_name", "asked").status == cli.DONE
    assert [json.loads((tmp_path / name / "config.json").read_text())["precision"] for name in ("run", "asked")] == ["bfloat16"] * 2

    monkeypatch.setattr(devices, "native_precision", lambda: "float32")  # gone on with elsewhere
    assert call(train.main, "--load_model", "run", *folder).status == cli.DONE
    call(train.main, "--load_model", "run", *auto, *folder).assert_refused("--precision float32 (the run has bfloat16)")


def test_a_run_is_named_by_the_minute(call, stand_in, records, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda form: "20200912-1241")
    monkeypatch.setattr(train, "train", lambda *args, **kwargs: cli.DONE)
    for _ in range(2):
        assert call(train.main, *records, *TINY_RUN, "--checkpoints_dir", tmp_path).status == cli.DONE
    assert sorted(f.name for f in tmp_path.iterdir()) == ["20200912-1241", "20200912-1241-2"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--X", "missing.tfrecords"], ["missing.tfrecords", "build_data.py"]),
        (["--image_size", 30], ["--image_size", "at least 32"]),
        (["--image_size", 130], ["--image_size", "130", "128 or 132"]),
        (["--load_size", 31], ["--load_size", "31"]),
        (["--image_size", 64, "--load_size", 60], ["--load_size 60", "--image_size 64"]),
        (["--batch_size", 0], ["--batch_size", "0", "at least 1"]),
        (["--lambda1", -1], ["--lambda1", "-1"]),
        (["--learning_rate", "nan"], ["--learning_rate", "nan"]),
        (["--norm", "layer"], ["--norm", "layer", "instance"]),
        (["--n_epochs", 0, "--n_epochs_decay", 0], ["--n_epochs 0"]),
        (["--image", 64], ["--image"]),
        (["--run_name", "../x"], ["--run_name", "../x"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(call, records, tmp_path, flags, words):
    call(train.main, *records, "--checkpoints_dir", tmp_path / "runs", *flags).assert_refused(*words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flags", [[], ["--run_name", "a"]])
def test_a_place_that_cannot_be_written_is_refused_before_the_data_are_read(call, records, tmp_path, monkeypatch, flags):
    monkeypatch.setattr(storage.os, "access", lambda folder, mode: folder != tmp_path)
    monkeypatch.setattr(train, "open_data", None)
    call(train.main, *records, "--checkpoints_dir", tmp_path / "runs", *flags).assert_refused(f"nothing can be written in {tmp_path}; ")


def test_a_terminal_obeys_nothing_that_the_name_of_a_run_says(call, small_run, stop_at):
    odd = small_run.rename(small_run.with_name("red\x1b[31m\n"))
    stop_at(7, signal.SIGTERM)
    outcomes = [call(train.main, "--load_model", odd, "--max_steps", 8, "--log_every", 1) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [143, 0]
    text = "".join(outcome.out + outcome.err for outcome in outcomes)
    assert "\x1b" not in text and all(f"{words} " in text for words in ("watch it:", "continue with:", "export it with:"))
    assert text.count("red\\x1b[31m\\n") == 2 * 2 + 1 + 2  # the first two lines of both, and what each says at its end


def test_an_existing_run_name_is_refused(call, records, stand_in_run):
    before = snapshot(stand_in_run)
    outcome = call(train.main, *records, "--checkpoints_dir", stand_in_run.parent, "--run_name", stand_in_run.name, *TINY_RUN)
    outcome.assert_refused(f"--run_name {stand_in_run.name}", "--load_model")
    assert snapshot(stand_in_run) == before


def test_the_second_ctrl_c_stops_at_once(call, small_run, stop_at):
    before = signal.getsignal(signal.SIGINT)
    stop_at(7, signal.SIGINT, signal.SIGINT)
    assert call(train.main, "--load_model", small_run, "--max_steps", 20).status == cli.INTERRUPTED
    assert checkpoint_steps(small_run) == [4, 5, 6]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("workers", [False, True])
def test_a_command_that_is_done_does_not_wait_for_tensorflow_to_go(monkeypatch, capsys, workers):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(sys, "argv", ["train.py", "--batch_size", "0"])
    monkeypatch.setenv("TF_CONFIG", "{}") if workers else monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(train.__file__, run_name="__main__")
    assert (ended.value.code, left) == (cli.WRONG_INPUT, [] if workers else [cli.WRONG_INPUT])
    assert "--batch_size" in capsys.readouterr().err


# --- measured on test pictures


@pytest.fixture
def eval_flags(tmp_path, features_file) -> list:
    for domain in "XY":
        for i in range(3):
            images.write(tmp_path / domain / f"{i}.png", draw(20 + i + 5 * (domain == "Y"), 32, 40))
    return ["--eval_every", 2, "--X_test", tmp_path / "X", "--Y_test", tmp_path / "Y", "--features", features_file]


@pytest.fixture
def kids(monkeypatch):
    """`kids(at_2=kid, …)` sets what is measured as KID at these steps, and returns the steps that are."""

    def kids(**values: float) -> list[int]:
        measured = []

        def evaluate(self, step):
            now.append(step)
            plain_evaluate(self, step)

        def measure(tests, G, F, before_each):
            before_each()
            numbers, sheet = plain(tests, G, F, before_each)
            measured.append(now[-1])
            return numbers | {f"{G}_kid": values[f"at_{now[-1]}"] for G in "GF"}, sheet

        now, plain, plain_evaluate = [], held_out.TestPictures.measure, journal.Journal.evaluate
        monkeypatch.setattr(held_out.TestPictures, "measure", measure)
        monkeypatch.setattr(journal.Journal, "evaluate", evaluate)
        return measured

    return kids


def test_a_run_is_measured_and_its_best_checkpoint_stays(call, stand_in, records, tmp_path, eval_flags, kids):
    measured = kids(at_2=0.3, at_4=0.1, at_6=0.2, at_8=0.2, at_9=0.15)
    few = [*TINY_RUN[:12], "--max_steps", 9, "--log_every", 2, "--save_every", 1, *eval_flags, "--checkpoints_dir", tmp_path]
    outcome = call(train.main, *records, *few, "--run_name", "run")
    run = tmp_path / "run"
    assert (outcome.status, measured) == (0, [2, 4, 6, 8, 9])  # the last step, too
    assert checkpoint_steps(run) == [4, 5, 6, 7, 8, 9]
    found = run_folder.evaluation(run)
    assert (found["best"]["step"], found["best"]["G_kid"], found["last"]["step"]) == (4, 0.1, 9)
    assert outcome.err.count("the best so far") == 2
    assert "step 6, on test pictures: G KID×1000 200.0 ± " in outcome.err

    tags = EventAccumulator(str(run), {"tensors": 0}).Reload()
    names = [f"{G}_{kind}" for G in "GF" for kind in ("kid", "kid_standard_error", "fid", "cycle_error", "identity_error", "unchanged")]
    for tag in ["test", *(f"test/{name}" for name in names)]:
        assert [e.step for e in tags.Tensors(tag)] == measured
    sheet = tf.io.decode_image(tf.make_ndarray(tags.Tensors("test")[0].tensor_proto)[2])
    assert sheet.shape[0] > 6 * 160


@pytest.mark.long
def test_what_is_measured_is_what_would_be_exported(call, records, tmp_path, eval_flags, eager):
    run = tmp_path / "run"
    call(train.main, *records, *TINY_RUN, *eval_flags, "--max_steps", 2, "--checkpoints_dir", tmp_path, "--run_name", "run")
    models = ["--XtoY_model", tmp_path / "G.pb", "--YtoX_model", tmp_path / "F.pb"]
    assert call(export_graph.main, "--checkpoint_dir", run, "--best", "--ema", *models).status == cli.DONE
    found = run_folder.evaluation(run)["best"]
    tests = held_out.TestPictures(tmp_path / "X", tmp_path / "Y", 32, None)
    G, F = (model_files.load(tmp_path / name) for name in ("G.pb", "F.pb"))
    numbers, _ = tests.measure(lambda picture: G(picture[None])[0], lambda picture: F(picture[None])[0])
    assert numbers == pytest.approx({name: found[name] for name in numbers}, abs=1e-4)


def test_a_stop_does_not_wait_for_the_measuring_which_is_made_up_for(call, stand_in, records, tmp_path, eval_flags, kids, stop_at):
    measured = kids(at_2=0.3, at_4=0.1, at_6=0.2)
    stop_at(2, signal.SIGTERM)
    flags = [*TINY_RUN[:12], "--max_steps", 4, "--log_every", 1, *eval_flags, "--features", "none", "--checkpoints_dir", tmp_path]
    assert call(train.main, *records, *flags, "--run_name", "run").status == cli.TERMINATED
    assert (measured, checkpoint_steps(tmp_path / "run")) == ([], [2])
    assert call(train.main, "--load_model", "run", "--checkpoints_dir", tmp_path).status == cli.DONE
    assert measured == [2, 4]
    assert call(train.main, "--load_model", "run", "--checkpoints_dir", tmp_path, "--max_steps", 6).status == cli.DONE
    assert measured == [2, 4, 6]


def test_test_pictures_that_vanish_do_not_stop_training(call, stand_in, records, tmp_path, eval_flags, at_log):
    at_log(1, lambda: shutil.rmtree(tmp_path / "X"))
    flags = [*TINY_RUN[:12], "--max_steps", 4, "--log_every", 1, *eval_flags, "--checkpoints_dir", tmp_path]
    outcome = call(train.main, *records, *flags, "--run_name", "run")
    assert (outcome.status, outcome.err.count("not measured")) == (0, 1)
    assert "0.png: No such file or directory" in outcome.err


def test_without_features_there_is_no_best(call, stand_in, records, tmp_path, eval_flags):
    flags = [*TINY_RUN[:12], "--max_steps", 2, *eval_flags, "--features", "none", "--checkpoints_dir", tmp_path]
    outcome = call(train.main, *records, *flags, "--run_name", "run")
    assert (outcome.status, run_folder.evaluation(tmp_path / "run").keys()) == (0, {"last"})
    assert "step 2, on test pictures: cycle error" in outcome.err
    call(export_graph.main, "--checkpoint_dir", tmp_path / "run", "--best", "--export_dir", tmp_path).assert_refused(
        "--best", "--eval_every"
    )
    call(export_graph.main, "--checkpoint_dir", tmp_path / "run" / "model.ckpt-2", "--best").assert_refused("name its run folder")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--X_test", "nowhere"], "nowhere: no such folder"),
        (["--features", "nowhere"], "--features nowhere: no SavedModel"),
    ],
)
def test_test_pictures_that_cannot_be_read_are_told_before_there_is_a_run(call, records, tmp_path, eval_flags, wrong, words):
    folder = tmp_path / "checkpoints"
    call(train.main, *records, *TINY_RUN, *eval_flags, *wrong, "--checkpoints_dir", folder).assert_refused(words)
    assert not folder.exists()


# --- what is handed to the loop


class Records(SimpleNamespace):
    """Stands in for a reader."""

    def __len__(self) -> int:
        return self.fingerprint["records"]


def reader(name: str, total: int) -> Records:
    return Records(name=name, total=total, fingerprint={"records": total}, share=None)


def small_config(**settings) -> Config:
    return Config(**{"image_size": 32, "precision": "float32", **settings})


@pytest.fixture
def one() -> Workers:
    return Workers(tf.distribute.get_strategy())


@pytest.mark.parametrize("new", [True, False])
def test_the_model_and_the_loop_get_both_domains_in_order(call, copied_run, records, tmp_path, monkeypatch, new):
    seen = []
    monkeypatch.setattr(train, "build_model", lambda workers, config, readers, **_: seen.append([r.name for r in readers]))
    monkeypatch.setattr(train, "train", lambda workers, model, readers, *_, **__: seen.append([r.name for r in readers]))
    flags = [*records, "--checkpoints_dir", tmp_path, "--run_name", "new"] if new else ["--load_model", copied_run]
    assert call(train.main, *flags).status == cli.DONE
    assert seen == [["X", "Y"]] * 2


@pytest.mark.parametrize("totals", [(5, 3), (3, 5)])
def test_an_epoch_passes_the_larger_domain(monkeypatch, one, totals):
    small_networks(monkeypatch)
    X, Y = map(reader, "XY", totals)
    built = train.build_model(one, small_config(batch_size=2, n_epochs=4, n_epochs_decay=7, learning_rate=0.25), [X, Y])
    rate = built.learning_rate
    assert (rate.decay_start, rate.total_steps, rate.rate) == (12, 33, 0.25)


def test_a_model_is_a_function_of_the_seed(monkeypatch, one):
    small_networks(monkeypatch)
    X, Y = reader("X", 5), reader("Y", 3)
    built = [train.build_model(one, small_config(seed=seed), [X, Y]) for seed in (3, 3, 4)]
    assert same(built[0].G, built[1].G) and not same(built[0].G, built[2].G)


class TwoWorkers(Workers):
    """Worker 1 of two, to which the other one says `others`."""

    def __init__(self, *others: str | int):
        super().__init__(tf.distribute.get_strategy(), index=1, count=2)
        self.others = iter(others)

    def exchange(self, text):
        return [next(self.others), text]

    def add_up(self, number):
        return number + next(self.others)

    def check_alike(self, what, value):
        pass


def test_the_epoch_is_that_of_all_workers_shards(monkeypatch):
    small_networks(monkeypatch)
    X, Y = reader("X", 5), reader("Y", 3)
    built = train.build_model(TwoWorkers(1, 40), small_config(shard_data=True, n_epochs=1, n_epochs_decay=0), [X, Y])
    assert (X.total, Y.total, built.learning_rate.total_steps) == (6, 43, 43)


def test_readers_are_opened_as_the_settings_say(records, one):
    config = Config(X=records[1], Y=records[3], image_size=32, load_size=40, batch_size=4, seed=3, skip_bad_records=True, decoder="fast")
    X, Y = train.open_data(one, config)
    assert (X.name, Y.name, X.file, Y.file) == ("X", "Y", records[1], records[3])
    for r in (X, Y):
        assert (r.image_size, r.load_size, r.batch_size, r.seed[0], r.training) == (32, 40, 4, 3, True)
        assert (r.skip_bad_records, r.first_row, r.row_count, r.share, r.decoder) == (True, 0, 4, None, "fast")
    assert X.seed != Y.seed
    X, Y = train.open_data(TwoWorkers(), config)
    assert [(r.first_row, r.row_count, r.batch_size) for r in (X, Y)] == [(2, 2, 4)] * 2


def test_each_worker_reads_its_own_shards_and_they_know_them_all(records, tmp_path):
    specs = [
        divide(Path(file), tmp_path / name, *counts) for file, name, counts in ((records[1], "x", (2, 1, 2)), (records[3], "y", (2, 1)))
    ]
    config = Config(X=specs[0], Y=specs[1], image_size=32, batch_size=4, shard_data=True)
    workers = TwoWorkers()
    own = train.open_data(workers, config)
    assert [(r.share, r.batch_size, len(r.shards), len(r)) for r in own] == [((1, 2), 2, 1, 1), ((1, 2), 2, 1, 1)]
    chief = TwoWorkers()
    chief.index = 0
    others = train.open_data(chief, config)
    workers.others = iter([json.dumps({r.name: [shard.fingerprint for shard in r.shards] for r in others})])
    found = train.fingerprints(workers, *own)
    assert [part["records"] for part in found["X"]["shards"]] == [2, 1, 2] and found["X"]["records"] == 5
    assert [part["records"] for part in found["Y"]["shards"]] == [2, 1] and found["Y"]["records"] == 3
    assert train.fingerprints(workers, *(reader(name, 7) for name in "XY")) == {name: {"records": 7} for name in "XY"}


def test_the_loop_is_handed_the_data_and_what_is_left_out(monkeypatch, one):
    X, Y = reader("X", 5), reader("Y", 3)
    X.bad, Y.bad, X.describe = {}, {2: "damaged"}, None
    Y.describe = lambda bad: f"y.tfrecords: {bad}"
    handed = []
    monkeypatch.setattr(loop, "run", lambda *args: handed.append(args) or cli.DONE)
    monkeypatch.setattr(reader_module, "feed_pairs", lambda *args: iter([args]))
    assert train.train(one, "model", [X, Y], "run", "tests", {"ngf": [1, 2]}) == cli.DONE
    ((trained, data, workers, run, tests, changed),) = handed
    assert (trained, workers, run, tests, changed) == ("model", one, "run", "tests", {"ngf": [1, 2]})
    assert data.pictures == (5, 3) and list(data.batches(7)) == [(X, Y, 7)]
    assert data.left_out() == {"Y 2": "y.tfrecords: {2: 'damaged'}; left out"}
