import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_RUN, snapshot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cli
import config
import train
from config import Config


def tensors(checkpoint: str | Path) -> dict[str, np.ndarray]:
    """All that a checkpoint holds, by name."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    names = [n for n in reader.get_variable_to_shape_map() if not n.startswith(("_CHECKPOINTABLE", "save_counter"))]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture
def stop_at(monkeypatch):
    """`stop_at(step, signal)` sends this process a signal while the scalars of a step are written."""

    def stop_at(stop: int, *signals: int) -> None:
        plain = train.write_scalars

        def write_scalars(writer, losses, step):
            plain(writer, losses, step)
            for number in signals if step == stop else ():
                os.kill(os.getpid(), number)

        monkeypatch.setattr(train, "write_scalars", write_scalars)

    return stop_at


def test_a_run_leaves_its_settings_and_its_checkpoints(trained_run):
    assert Config.load(trained_run) == Config(
        X=Config.load(trained_run).X, Y=Config.load(trained_run).Y, image_size=32, ngf=2, ndf=2, n_res_blocks=1, pool_size=2,
        ema=0.9, max_steps=6, log_every=2, image_every=3, save_every=4,
    )  # fmt: skip
    assert sorted(f.name for f in trained_run.glob("*.index")) == ["model.ckpt-4.index", "model.ckpt-6.index"]
    assert tf.train.latest_checkpoint(str(trained_run)) == str(trained_run / "model.ckpt-6")
    assert tensors(trained_run / "model.ckpt-6")["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == 6


def test_tensorboard_gets_the_chapters_tags_when_they_are_due(trained_run):
    events = EventAccumulator(str(trained_run), {"tensors": 0}).Reload()
    steps = {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    scalars = ["loss/G", "loss/F", "loss/D_X", "loss/D_Y", "loss/cycle", "learning_rate"]
    pictures = [f"{domain}/{kind}" for domain in "XY" for kind in ("input", "generated", "reconstruction")]
    histograms = [f"D_{domain}/{kind}" for domain in "XY" for kind in ("true", "fake")]
    assert steps == {tag: [1, 2, 4, 6] for tag in scalars} | {tag: [1, 3, 6] for tag in pictures + histograms}
    size = tf.io.decode_image(tf.make_ndarray(events.Tensors("X/generated")[0].tensor_proto)[2]).shape
    assert size == (32, 32, 3)
    rates = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("learning_rate")]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 2e-4 / 3])  # of the step's start: 0, 1, 3, 5, falling from 3 on


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, cli.INTERRUPTED), (signal.SIGTERM, cli.TERMINATED)])
def test_a_stopped_run_saves_and_continues_as_if_it_had_not_been_stopped(call, trained_run, records, tmp_path, stop_at, number, status):
    stop_at(2, number)
    outcome = call(train.main, *records, *TINY_RUN, "--checkpoints_dir", tmp_path, "--run_name", "cut")
    assert outcome.status == status
    assert f"python train.py --load_model {tmp_path / 'cut'}" in outcome.err
    assert [f.name for f in (tmp_path / "cut").glob("*.index")] == ["model.ckpt-2.index"]

    assert call(train.main, "--load_model", "cut", "--checkpoints_dir", tmp_path).status == cli.DONE
    whole, cut = tensors(trained_run / "model.ckpt-6"), tensors(tmp_path / "cut" / "model.ckpt-6")
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        assert np.array_equal(value, cut[name]), name


def test_a_finished_run_is_left_as_it_is(call, trained_run):
    before = {name for name in snapshot(trained_run) if "tfevents" not in name}
    outcome = call(train.main, "--load_model", trained_run)
    assert outcome.status == cli.DONE
    assert "trained to step 6" in outcome.out
    assert {name for name in snapshot(trained_run) if "tfevents" not in name} == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ngf", 4, "--norm", "batch"], ["--ngf 4 (the run has 2)", "--norm batch (the run has instance)"]),
        (["--image_size", 64], ["--image_size 64 (the run has 32)"]),
        (["--run_name", "other"], ["--run_name other", "--load_model"]),
        (["--X", "missing.tfrecords"], ["missing.tfrecords", "no such file"]),
    ],
)
def test_what_contradicts_the_run_is_refused(call, trained_run, flags, words):
    before = snapshot(trained_run)
    call(train.main, "--load_model", trained_run, *flags).assert_refused(*words)
    assert snapshot(trained_run) == before


def test_a_run_that_cannot_be_continued_is_refused(call, trained_run, tmp_path):
    call(train.main, "--load_model", "nowhere", "--checkpoints_dir", tmp_path).assert_refused("--load_model nowhere", "no such run")
    Config.load(trained_run).save(tmp_path)
    call(train.main, "--load_model", tmp_path).assert_refused(str(tmp_path), "no checkpoint")

    for file in trained_run.glob("*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"n_res_blocks": 2}))
    call(train.main, "--load_model", tmp_path).assert_refused("model.ckpt-6", "does not fit")


def test_a_run_is_named_by_the_minute(call, records, tmp_path, monkeypatch):
    monkeypatch.setattr(config.time, "strftime", lambda form: "20200912-1241")
    monkeypatch.setattr(train, "train", lambda *args: cli.DONE)
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
    now = 0.0
    monkeypatch.setattr(train.time, "monotonic", lambda: now)
    gate, opened = train.Gate(steps=10, seconds=5), []
    for step in range(1, 41):
        now += 0.1 if step <= 20 else 2.0
        if gate.due(step):
            opened.append(step)
    assert opened == [10, 20, 23, 26, 29, 30, 33, 36, 39, 40]


def test_the_second_ctrl_c_stops_at_once(call, records, tmp_path, stop_at):
    before = signal.getsignal(signal.SIGINT)
    stop_at(1, signal.SIGINT, signal.SIGINT)
    outcome = call(train.main, *records, *TINY_RUN, "--checkpoints_dir", tmp_path, "--run_name", "r")
    assert outcome.status == cli.INTERRUPTED
    assert not list((tmp_path / "r").glob("*.index"))
    assert signal.getsignal(signal.SIGINT) is before
