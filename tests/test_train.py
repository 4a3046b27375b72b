"""Training: what a run leaves behind, and that nothing is lost whatever stops it."""

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_RUN, divide, draw, snapshot
from kills import compare, scalars, tensors
from sabotage import builder
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import export_graph
import model
import train
from formats import translator
from pictures import images
from quality import held_out
from system import cli, devices, signals
from training import health, run_folder
from training.checkpoints import Checkpoints
from training.config import Config


@pytest.fixture
def at_log(monkeypatch):
    """`at_log(step, act)` lets something happen after the scalars of a step are written."""

    def at_log(step: int, act) -> None:
        plain = train.Training.log

        def log(self):
            plain(self)
            if self.step == step:
                act()

        monkeypatch.setattr(train.Training, "log", log)

    return at_log


@pytest.fixture
def stop_at(at_log):
    """`stop_at(step, signal)` sends this process a signal after the scalars of a step are written."""
    return lambda step, *signals: at_log(step, lambda: [os.kill(os.getpid(), number) for number in signals])


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
    scalars = [f"health/{G}_{kind}" for G in "GF" for kind in ("brightness", "variety", "change")] + ["health/D_X_loss", "health/D_Y_loss"]
    scalars += ["loss/G", "loss/F", "loss/D_X", "loss/D_Y", "loss/cycle", "learning_rate"]
    pictures = [f"{domain}/{kind}" for domain in "XY" for kind in ("input", "generated", "reconstruction")]
    histograms = [f"D_{domain}/{kind}" for domain in "XY" for kind in ("true", "fake")]
    assert steps == {tag: [1, 2, 4, 6] for tag in scalars} | {tag: [1, 3, 6] for tag in pictures + histograms}
    size = tf.io.decode_image(tf.make_ndarray(events.Tensors("X/generated")[0].tensor_proto)[2]).shape
    assert size == (32, 32, 3)
    rates = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("learning_rate")]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 2e-4 / 3])  # of the step's start: 0, 1, 3, 5, falling from 3 on


# --- stops, and going on


@pytest.mark.long
def test_a_stopped_run_continues_as_if_it_had_not_been_stopped(call, trained_run, records, tmp_path, stop_at):
    stop_at(2, signal.SIGTERM)
    assert call(train.main, *records, *TINY_RUN, "--checkpoints_dir", tmp_path, "--run_name", "cut").status == cli.TERMINATED
    assert call(train.main, "--load_model", "cut", "--checkpoints_dir", tmp_path, "--image_every", 100).status == cli.DONE
    assert compare(trained_run, tmp_path / "cut", 6, every=2) == []
    assert history(tmp_path / "cut") == [("started", 0), ("stopped", 2), ("continued", 2), ("finished", 6)]
    continued = json.loads((tmp_path / "cut" / "history.jsonl").read_text().splitlines()[2])
    assert continued["changed"] == {"image_every": [3, 100]}
    assert Config.load(tmp_path / "cut").image_every == 100


def test_a_run_goes_on_with_the_shards_of_its_data(call, copied_run, eager, records, tmp_path):
    """They give the same batches: tests/test_reader.py."""
    X, Y = divide(Path(records[1]), tmp_path / "red", 2, 2, 1), divide(Path(records[3]), tmp_path / "blue", 2, 1)
    pattern = str(tmp_path / "blue-*")
    assert call(train.main, "--load_model", copied_run, "--X", X, "--Y", pattern, "--max_steps", 7).status == cli.DONE
    assert {"X": X, "Y": pattern}.items() <= vars(Config.load(copied_run)).items()
    call(train.main, "--load_model", copied_run, "--Y", Y.replace("@2", "@3")).assert_refused("blue-00000-of-00003 is missing")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_go_on(call, copied_run, eager, stop_at, number, status, monkeypatch):
    monkeypatch.setattr(train.signal, "getsignal", lambda number: signal.SIG_DFL)  # as if not under nohup, which the tests may be
    stop_at(7, number)
    outcome = call(train.main, "--load_model", copied_run, "--max_steps", 20)
    assert outcome.status == status
    assert outcome.err.splitlines()[-1] == f"stopped and saved at step 7; continue with: python train.py --load_model {copied_run}"
    assert checkpoint_steps(copied_run) == [4, 5, 6, 7]


@pytest.mark.long
def test_after_a_damaged_checkpoint_the_one_before_is_gone_on_from(call, trained_run, copied_run):
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


def test_nohup_is_respected(monkeypatch):
    monkeypatch.setattr(train.signal, "getsignal", lambda number: signal.SIG_IGN)
    with signals.StopSignals() as stop:
        assert signal.SIGHUP not in stop.previous


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(call, trained_run, copied_run, monkeypatch):
    for file in copied_run.glob("*ckpt*"):
        file.unlink()
    (copied_run / ".saving-4").mkdir()
    monkeypatch.setattr(train.Training, "loop", lambda self: None)
    assert call(train.main, "--load_model", copied_run).status == cli.DONE
    assert history(copied_run)[-2:] == [("continued", 0), ("finished", 0)]
    assert not (copied_run / ".saving-4").exists()


def test_a_signal_in_a_save_waits_for_its_end(call, copied_run, eager, monkeypatch):
    save = Checkpoints.save

    def interrupted(self, step):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        save(self, step)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    outcome = call(train.main, "--load_model", copied_run, "--max_steps", 20, "--save_every", 7)
    assert outcome.status == cli.INTERRUPTED
    assert "stopped and saved at step 7" in outcome.err
    assert checkpoint_steps(copied_run)[-1] == 7


def test_a_finished_run_is_left_as_it_is(call, trained_run):
    before = snapshot(trained_run)
    outcome = call(train.main, "--load_model", trained_run)
    assert outcome.status == cli.DONE
    assert "trained to step 6" in outcome.out
    assert {k: v for k, v in snapshot(trained_run).items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_an_end_that_lies_behind_is_refused(call, trained_run):
    call(train.main, "--load_model", trained_run, "--max_steps", 3).assert_refused("step 6", "step 3", "--max_steps")


def test_a_second_process_on_a_run_is_refused(call, copied_run):
    with run_folder.locked(copied_run):
        before = snapshot(copied_run)
        call(train.main, "--load_model", copied_run, "--max_steps", 9).assert_refused(str(copied_run), f"process {os.getpid()}")
        assert snapshot(copied_run) == before


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


def test_averages_begin_as_the_networks_if_the_other_run_keeps_none(call, trained_run, copied_run, records, tmp_path, eager):
    settings = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").write_text(json.dumps(settings | {"ema": 0.0}))
    flags = ["--checkpoints_dir", tmp_path, "--run_name", "second", "--image_size", 32, "--max_steps", 1]
    assert call(train.main, *records, *flags, "--init_from", copied_run / "model.ckpt-4").status == cli.DONE
    begun, theirs = restored(tmp_path / "second", 0), restored(trained_run, 4)
    assert same(begun.G_ema, theirs.G) and same(begun.F_ema, theirs.F)


def test_a_run_killed_before_its_first_checkpoint_begins_again_with_those_networks(call, trained_run, records, tmp_path, monkeypatch):
    monkeypatch.setattr(train.Training, "go", lambda self, **_: cli.DONE)
    flags = ["--checkpoints_dir", tmp_path, "--run_name", "second", "--image_size", 32]
    assert call(train.main, *records, *flags, "--init_from", trained_run).status == cli.DONE
    assert checkpoint_steps(tmp_path / "second") == []
    monkeypatch.undo()
    monkeypatch.setattr(train.Training, "loop", lambda self: None)
    assert call(train.main, "--load_model", tmp_path / "second").status == cli.DONE
    assert same(restored(tmp_path / "second", 0).G, restored(trained_run, 6).G)


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
    (tmp_path / "empty" / "checkpoint").unlink()
    before = snapshot(tmp_path)
    flags = ["--checkpoints_dir", tmp_path, "--image_size", 32, *flags]
    call(train.main, *records, *flags, "--init_from", source).assert_refused(*words)
    assert snapshot(tmp_path) == before


# --- what goes wrong on the way


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(call, copied_run, eager):
    before = {name: content for name, content in snapshot(copied_run).items() if "ckpt" in name}
    outcome = call(train.main, "--load_model", copied_run, "--learning_rate", 1e30, "--max_steps", 20, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    line = outcome.err.splitlines()[-1]
    for word in ("loss/G", "not a finite number since step 8", "step 7 is intact", "--load_model", "--learning_rate 0.0002"):
        assert word in line
    after = {name: content for name, content in snapshot(copied_run).items() if "ckpt" in name}
    assert before.items() <= after.items()
    assert checkpoint_steps(copied_run) == [4, 5, 6, 7]
    assert history(copied_run)[-1] == ("stopped", 8)


def test_weights_that_are_not_finite_are_not_saved(call, copied_run, eager, at_log, monkeypatch):
    """A gradient can be infinite where the loss is not yet."""
    models = []
    plain = train.build_model
    monkeypatch.setattr(train, "build_model", lambda *args, **kwargs: models.append(plain(*args, **kwargs)) or models[0])
    at_log(7, lambda: models[0].F.trainable_variables[0].assign_add(tf.fill(models[0].F.trainable_variables[0].shape, np.nan)))
    outcome = call(train.main, "--load_model", copied_run, "--max_steps", 20, "--save_every", 7)
    assert outcome.status == cli.PARTIAL
    assert "the networks' weights: not a finite number since step 7" in outcome.err
    assert checkpoint_steps(copied_run) == [4, 5, 6]


def fill_the_disk() -> None:
    """A limit on the size of files is a full disk to whoever writes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def disk():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_in_one_line_and_the_older_checkpoint_is_usable(call, copied_run, eager, at_log, disk):
    at_log(7, fill_the_disk)
    outcome = call(train.main, "--load_model", copied_run, "--max_steps", 12, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    assert outcome.err.splitlines()[-1].startswith(
        f"{Path(sys.argv[0]).name}: {copied_run}: cannot be written at step 7 (File too large). "
    )
    assert "The checkpoint of step 6 is intact; go on with: python train.py --load_model" in outcome.err
    assert "Traceback" not in outcome.err
    assert checkpoint_steps(copied_run) == [4, 5, 6] and not list(copied_run.glob(".saving*"))


def test_a_run_folder_that_vanishes_ends_in_one_line(call, copied_run, eager, at_log):
    at_log(7, lambda: shutil.rmtree(copied_run))
    outcome = call(train.main, "--load_model", copied_run, "--max_steps", 12, "--save_every", 1)
    assert outcome.status == cli.PARTIAL
    assert f"{copied_run}: cannot be written at step 7 (No such file or directory). The folder is gone" in outcome.err.splitlines()[-1]
    assert not copied_run.exists()


@pytest.mark.long
def test_a_record_that_rots_stops_the_run_or_is_left_out(call, records, tmp_path, eager):
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
    ("kinds", "told", "not_told"),
    [
        ("invert,copy", ["G_inverts", "F_copies"], ["F_inverts", "G_copies", "G_collapses", "F_collapses"]),
        ("collapse", ["G_collapses"], ["G_copies"]),
    ],
)
def test_generators_that_go_wrong_are_reported(call, records, tmp_path, monkeypatch, kinds, told, not_told):
    monkeypatch.setattr(model, "build_generator", builder(kinds))
    monkeypatch.setattr(health, "WARM_UP", 10)
    flags = ["--image_size", 32, "--ndf", 4, "--pool_size", 0, "--log_every", 5, "--max_steps", 20]
    outcome = call(train.main, *records, *flags, "--checkpoints_dir", tmp_path, "--run_name", "run")
    assert outcome.status == cli.DONE
    events = [event for event, _ in history(tmp_path / "run")]
    assert set(told) <= set(events) and not set(not_told) & set(events)
    assert len(set(events)) == len(events)  # each of them once, though they are due at 10, 15 and 20
    assert outcome.err.count("warning: G") == sum(event.startswith("G_") for event in events)
    assert all(f"health/{topic}" in tags(tmp_path / "run") for topic in told)


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
def test_what_contradicts_the_run_is_refused(call, trained_run, records, flags, words):
    before = snapshot(trained_run)
    flags, words = ([str(word).replace("{X}", records[1]) for word in some] for some in (flags, words))
    call(train.main, "--load_model", trained_run, *flags).assert_refused(*words)
    assert snapshot(trained_run) == before


def test_a_run_that_cannot_be_continued_is_refused(call, copied_run, tmp_path):
    call(train.main, "--load_model", "nowhere", "--checkpoints_dir", tmp_path).assert_refused("--load_model nowhere", "no such run")
    settings = json.loads((copied_run / "config.json").read_text())
    (copied_run / "config.json").write_text(json.dumps(settings | {"n_res_blocks": 2}))
    call(train.main, "--load_model", copied_run).assert_refused("model.ckpt-6", "other settings")


def test_auto_becomes_the_number_type_that_the_run_keeps(call, records, tmp_path, monkeypatch):
    monkeypatch.setattr(train.Training, "go", lambda self, **_: cli.DONE)
    monkeypatch.setattr(devices, "native_precision", lambda: "bfloat16")
    folder, auto = ["--checkpoints_dir", tmp_path], ["--precision", "auto"]
    at = TINY_RUN.index("--precision")
    assert call(train.main, *records, *TINY_RUN[:at], *TINY_RUN[at + 2 :], *folder, "--run_name", "run").status == cli.DONE  # the default
    assert call(train.main, *records, *TINY_RUN, *auto, *folder, "--run_name", "asked").status == cli.DONE
    assert [json.loads((tmp_path / name / "config.json").read_text())["precision"] for name in ("run", "asked")] == ["bfloat16"] * 2

    monkeypatch.setattr(devices, "native_precision", lambda: "float32")  # gone on with elsewhere
    assert call(train.main, "--load_model", "run", *folder).status == cli.DONE
    call(train.main, "--load_model", "run", *auto, *folder).assert_refused("--precision float32 (the run has bfloat16)")


@pytest.mark.parametrize(
    ("precision", "native", "words"),
    [
        ("bfloat16", "bfloat16", "bfloat16, which this device has"),
        ("float32", "float32", "float32, as this device has no bfloat16"),
        ("float32", "bfloat16", "float32, though this device has bfloat16, too"),
        ("bfloat16", "float32", "many times slower; --init_from and --precision float32"),
        ("float16", "float32", "float16"),
    ],
)
def test_the_first_line_says_what_is_computed_in_and_why(precision, native, words):
    assert words in train.number_type_words(precision, native)


@pytest.mark.parametrize(("processors", "threads"), [(1, "1"), (2, "1"), (8, "4"), (None, "1")])
def test_each_translation_gets_half_of_the_processors(monkeypatch, processors, threads):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    devices.share_threads()
    assert os.environ == {"TF_NUM_INTRAOP_THREADS": threads}


def test_a_number_of_threads_that_is_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TF_NUM_INTRAOP_THREADS": "3"})
    devices.share_threads()
    assert os.environ == {"TF_NUM_INTRAOP_THREADS": "3"}


def test_a_run_is_named_by_the_minute(call, records, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda form: "20200912-1241")
    monkeypatch.setattr(train.Training, "go", lambda self, **_: cli.DONE)
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


def test_an_existing_run_name_is_refused(call, records, trained_run):
    before = snapshot(trained_run)
    outcome = call(train.main, *records, "--checkpoints_dir", trained_run.parent, "--run_name", trained_run.name, *TINY_RUN)
    outcome.assert_refused(f"--run_name {trained_run.name}", "--load_model")
    assert snapshot(trained_run) == before


def test_a_gate_opens_by_steps_or_by_time_whichever_is_first(monkeypatch):
    monkeypatch.setattr(train.time, "monotonic", lambda: now)
    for last, first in ((float("-inf"), [1]), (0.0, [])):
        now = 0.0
        gate, opened = train.Gate(steps=10, seconds=5, last=last), []
        for step in range(1, 41):
            now += 0.1 if step <= 20 else 2.0
            if gate.due(step):
                opened.append(step)
        assert opened == [*first, 10, 20, 23, 26, 29, 30, 33, 36, 39, 40]


def test_the_second_ctrl_c_stops_at_once(call, copied_run, eager, stop_at):
    before = signal.getsignal(signal.SIGINT)
    stop_at(7, signal.SIGINT, signal.SIGINT)
    assert call(train.main, "--load_model", copied_run, "--max_steps", 20).status == cli.INTERRUPTED
    assert checkpoint_steps(copied_run) == [4, 5, 6]
    assert signal.getsignal(signal.SIGINT) is before


# --- measured on test pictures


@pytest.fixture
def eval_flags(tmp_path, features_file) -> list:
    for domain in "XY":
        for i in range(3):
            images.write(tmp_path / domain / f"{i}.png", draw(20 + i + 5 * (domain == "Y"), 32, 40))
    return ["--eval_every", 2, "--X_test", tmp_path / "X", "--Y_test", tmp_path / "Y", "--features", features_file]


@pytest.fixture
def kids(monkeypatch):
    """`kids(step=kid, …)` sets what is measured as KID at these steps, and returns the steps that are."""

    def kids(**values: float) -> list[int]:
        measured = []

        def measure(tests, G, F, before_each):
            before_each()
            numbers, sheet = plain(tests, G, F, before_each)
            step = int(found.step)
            measured.append(step)
            return numbers | {f"{G}_kid": values[f"at_{step}"] for G in "GF"}, sheet

        def translators(model):
            nonlocal found
            found = model
            return plain_translators(model)

        found, plain, plain_translators = None, held_out.TestPictures.measure, model.CycleGAN.translators
        monkeypatch.setattr(held_out.TestPictures, "measure", measure)
        monkeypatch.setattr(model.CycleGAN, "translators", translators)
        return measured

    return kids


@pytest.mark.long
def test_a_run_is_measured_and_its_best_checkpoint_stays(call, records, tmp_path, eval_flags, eager, kids):
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
    G, F = (translator.load(tmp_path / name) for name in ("G.pb", "F.pb"))
    numbers, _ = tests.measure(lambda picture: G(picture[None])[0], lambda picture: F(picture[None])[0])
    assert numbers == pytest.approx({name: found[name] for name in numbers}, abs=1e-4)


@pytest.mark.long
def test_a_stop_does_not_wait_for_the_measuring_which_is_made_up_for(call, records, tmp_path, eval_flags, eager, kids, stop_at):
    measured = kids(at_2=0.3, at_4=0.1, at_6=0.2)
    stop_at(2, signal.SIGTERM)
    flags = [*TINY_RUN[:12], "--max_steps", 4, "--log_every", 1, *eval_flags, "--checkpoints_dir", tmp_path]
    assert call(train.main, *records, *flags, "--run_name", "run").status == cli.TERMINATED
    assert (measured, checkpoint_steps(tmp_path / "run")) == ([], [2])
    assert call(train.main, "--load_model", "run", "--checkpoints_dir", tmp_path).status == cli.DONE
    assert measured == [2, 4]
    assert call(train.main, "--load_model", "run", "--checkpoints_dir", tmp_path, "--max_steps", 6).status == cli.DONE
    assert measured == [2, 4, 6]


def test_test_pictures_that_vanish_do_not_stop_training(call, records, tmp_path, eval_flags, eager, at_log):
    at_log(1, lambda: shutil.rmtree(tmp_path / "X"))
    flags = [*TINY_RUN[:12], "--max_steps", 4, "--log_every", 1, *eval_flags, "--checkpoints_dir", tmp_path]
    outcome = call(train.main, *records, *flags, "--run_name", "run")
    assert (outcome.status, outcome.err.count("not measured")) == (0, 1)
    assert "0.png: No such file or directory" in outcome.err


def test_without_features_there_is_no_best(call, records, tmp_path, eval_flags, eager):
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


def test_a_damaged_evaluation_is_as_none(tmp_path):
    for text in ("", "[]", '{"best": 3}', '{"best": {"step": "x"}, "last": {"step": 4}}'):
        (tmp_path / "evaluation.json").write_text(text)
        assert run_folder.evaluation(tmp_path) == ({"last": {"step": 4}} if "4" in text else {})
