"""What a run reports and keeps: each report in its three places, the history, the checkpoints and the best of them."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from kills import scalars
from standin import OneWeight
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from quality.held_out import TestPictures
from system import devices, progress
from system.cli import InputError, Stopped
from system.signals import StopSignals
from training import health, run_folder
from training.checkpoints import Checkpoints
from training.config import Config
from training.journal import Data, Journal, epoch_words, number_type_words

LOSSES = {"loss/G": tf.constant(0.25), "loss/cycle": tf.constant(1.5), "learning_rate": tf.constant(0.1)}


class Tests(SimpleNamespace):
    """Stands in for the test pictures: what is measured at each call, or raised."""

    __test__ = False
    words, score = TestPictures.words, TestPictures.score

    def measure(self, G, F, before_each):
        before_each()
        self.seen = [int(translate(np.uint8(5))) for translate in (G, F)]
        found = self.results.pop(0)
        if isinstance(found, Exception):
            raise found
        kid = {"G_kid": found[0], "F_kid": found[1], "G_kid_standard_error": 0.01, "F_kid_standard_error": 0.02} if self.features else {}
        return {**kid, "G_cycle_error": 0.1, "F_cycle_error": 0.2}, np.full((4, 6, 3), 7, np.uint8)


@pytest.fixture
def stop():
    with StopSignals() as stop:
        yield stop


@pytest.fixture
def open_journal(tmp_path, stop, monkeypatch):
    """`open_journal(setting=…, …)` begins the journal of a run of 6 steps in `tmp_path`."""
    monkeypatch.setattr(devices, "native_precision", lambda: "float32")

    def open_journal(step=0, tests=None, changed=None, left_out=dict, pictures=(5, 3), **settings) -> Journal:
        model = OneWeight(Config(**{"precision": "float32", "X_test": "a", "Y_test": "b", **settings}), 6)
        model.step.assign(step)
        checkpoints = Checkpoints(tmp_path, model, model.config.keep_every)
        journal = Journal(model, Data(iter, pictures, left_out), checkpoints, stop, tests, changed)
        journal.begin(step, "2 × CPU")
        return journal

    return open_journal


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def events(run: Path) -> list[tuple]:
    return [(line["event"], line["step"]) for line in history(run)]


def texts(run: Path) -> dict[str, list]:
    found = EventAccumulator(str(run), {"tensors": 0}).Reload()
    return {tag: [(e.step, e.tensor_proto.string_val[0].decode()) for e in found.Tensors(tag)] for tag in found.Tags()["tensors"]
            if found.SummaryMetadata(tag).plugin_data.plugin_name == "text"}  # fmt: skip


# --- the beginning


def test_a_new_run_says_what_it_is(open_journal, tmp_path, capsys):
    open_journal(pictures=(5, 3))
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: 5 + 3 pictures, steps 0 to 6, on 2 × CPU, in float32, as this device has no bfloat16",
        f"watch it: tensorboard --logdir {tmp_path}",
    ]
    assert events(tmp_path) == [("started", 0)] and "changed" not in history(tmp_path)[0]
    assert not (tmp_path / "config.json").exists()  # which is there before a run is begun


def test_what_takes_long_is_announced(open_journal, capsys):
    journal = open_journal()
    assert capsys.readouterr().err == "building the training step, which takes up to a minute\n"
    journal.save(4)
    assert capsys.readouterr().err == ""
    journal.end(6)
    assert capsys.readouterr().err == "saving at step 6\n"


def test_a_continued_run_keeps_what_is_changed(open_journal, tmp_path, capsys):
    open_journal(step=4, changed={"ngf": [64, 3]}, ngf=3)
    assert "steps 4 to 6" in capsys.readouterr().out
    assert events(tmp_path) == [("continued", 4)] and history(tmp_path)[0]["changed"] == {"ngf": [64, 3]}
    assert Config.load(tmp_path).ngf == 3
    open_journal(step=4, changed={})
    assert events(tmp_path)[1] == ("continued", 4) and "changed" not in history(tmp_path)[1]


def test_a_run_with_anothers_networks_saves_them_at_once(open_journal, tmp_path, capsys):
    open_journal(init_from="other/model.ckpt-3")
    assert "begins with the networks of other/model.ckpt-3\n" in capsys.readouterr().out
    assert Checkpoints(tmp_path, tf.Module()).steps() == [0]
    open_journal(init_from="other/model.ckpt-3")
    assert "begins with" not in capsys.readouterr().out


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
    assert words in number_type_words(precision, native)


# --- reports


def test_scalars_are_logged_with_their_step(open_journal, tmp_path):
    journal = open_journal(left_out=lambda: {"X 3": "a; left out", "Y 0": "b; left out"})
    journal.log(2, LOSSES | journal.model.train_step(tf.zeros(1), tf.zeros(1)))
    journal.end(2)
    found = scalars(tmp_path)
    assert found["loss/G"] == [(2, 0.25)] and found["loss/cycle"] == [(2, 1.5)] and found["data/skipped_records"] == [(2, 2.0)]


def healthy(journal: Journal, **sick: float) -> dict:
    return LOSSES | {f"health/{name}": tf.constant(value) for name, value in (journal.model.health | sick).items()}


def test_what_looks_wrong_is_reported_once_in_three_places(open_journal, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(health, "WARM_UP", 4)
    bad = {"X 3": "x.tfrecords: record 3: damaged; left out"}
    journal = open_journal(left_out=lambda: bad)
    journal.log(3, healthy(journal, G_change=0.001))
    assert events(tmp_path) == [("started", 0), ("X 3", 3)]  # too early to judge the networks
    journal.log(4, healthy(journal, G_change=0.001))
    journal.log(6, healthy(journal, G_change=0.001, D_X_loss=0.01))
    journal.end(6)
    assert events(tmp_path)[2:4] == [("G_copies", 4), ("D_X_wins", 6)]
    err = capsys.readouterr().err
    assert err.count("step 4: warning: G hands its input back") == err.count("G hands") == 1
    assert err.count(f"step 3: {bad['X 3']}") == err.count("left out") == 1
    said = texts(tmp_path)
    assert said["network_health/X 3"] == [(3, bad["X 3"])] and said["network_health/D_X_wins"][0][0] == 6
    assert {line["event"]: line["says"] for line in history(tmp_path) if "says" in line}["X 3"] == bad["X 3"]


def test_progress_is_in_epochs_of_the_larger_domain(open_journal, capsys):
    for pictures in ((5, 3), (3, 5)):
        journal = open_journal(pictures=pictures, batch_size=2)
        capsys.readouterr()
        journal.log(5, healthy(journal))
        assert capsys.readouterr().err == "5/6 steps  epoch 2.0 of 2.4  G 0.250  cycle 1.500\n"


@pytest.mark.parametrize(
    ("now", "total", "words"),
    [
        (1.2, 200, "1.2 of 200"),
        (0.25, 9.96, "0.2 of 10"),
        (1, 1, "1.0 of 1"),
        (0.12, 0.3, "0.12 of 0.30"),
        (2e-3, 4e-3, "0.0020 of 0.0040"),
    ],
)
def test_a_run_of_less_than_an_epoch_says_which_part_of_it(now, total, words):
    assert epoch_words(now, total) == words


def test_time_left_and_speed_come_first(open_journal, capsys, monkeypatch):
    journal = open_journal(batch_size=2)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 10.0)
    journal.progress(1, healthy(journal), force=True)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 14.0)
    journal.progress(2, healthy(journal), force=True)
    assert capsys.readouterr().err.endswith("2/6 steps  0:16 left  0.50 pictures/s  epoch 0.8 of 2.4  G 0.250  cycle 1.500\n")


def test_pictures_and_answers_reach_tensorboard(open_journal, tmp_path):
    journal = open_journal()
    picture = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
    journal.pictures(3, {"X/input": tf.constant(picture), "D_Y/true": tf.constant([0.5, 0.7])})
    journal.end(3)
    found = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    (image,), (answers,) = found.Tensors("X/1_input"), found.Tensors("D_Y/true")
    assert image.step == answers.step == 3
    assert np.array_equal(tf.io.decode_image(tf.make_ndarray(image.tensor_proto)[2]), picture[0])
    assert tf.make_ndarray(answers.tensor_proto)[:, 2].sum() == 2


def test_a_run_keeps_the_tags_that_it_was_begun_with(open_journal, tmp_path):
    def tags(step: int) -> set[str]:
        journal = open_journal(step=step, changed={} if step else None)
        journal.log(step + 1, healthy(journal))
        journal.pictures(step + 1, {f"X/{kind}": tf.zeros((1, 2, 2, 3), tf.uint8) for kind in ("input", "generated", "reconstruction")})
        journal.end(step + 1)
        new = set(EventAccumulator(str(tmp_path), {"tensors": 0}).Reload().Tags()["tensors"])
        for file in tmp_path.glob("events*"):
            file.unlink()
        return new

    pictures = ["X/1_input", "X/generated", "X/reconstruction"]
    now = tags(0)
    assert sorted(now)[:3] == pictures and "network_health/G_change" in now
    groups = sorted({tag.partition("/")[0] for tag in now})  # as TensorBoard does
    assert groups == ["X", "learning_rate", "loss", "network_health"]
    assert tags(1) == now

    (first, *_) = history(tmp_path)
    assert first.pop("tags") == 2
    (tmp_path / "history.jsonl").write_text(json.dumps(first) + "\n")  # as before there was any order
    before = {"X/input" if tag == "X/1_input" else tag.replace("network_health", "health") for tag in now}
    assert tags(2) == tags(3) == before


# --- checkpoints


def test_what_is_not_finite_is_not_saved(open_journal, tmp_path):
    journal = open_journal(learning_rate=0.1)
    journal.save(3)
    journal.model.weight.assign(np.nan)
    journal.log(4, healthy(journal))  # weights are looked at before they are saved only
    with pytest.raises(Stopped) as error:
        journal.save(4)
    assert str(error.value) == (
        "the networks' weights: not a finite number since step 0; nothing of that is saved. The checkpoint of step 3 is intact; "
        f"go on with: python train.py --load_model {tmp_path} --learning_rate 0.0002"
    )
    assert Checkpoints(tmp_path, tf.Module()).steps() == [3] and events(tmp_path)[-1] == ("stopped", 4)
    journal.model.since.assign([5])
    with pytest.raises(Stopped, match="loss/G: not a finite number since step 5"):
        journal.log(6, healthy(journal))


def test_the_remedy_for_a_rate_below_the_default_is_half_of_it(open_journal):
    journal = open_journal(learning_rate=3e-4)
    journal.model.weight.assign(np.inf)
    with pytest.raises(Stopped, match=r"No checkpoint was due yet; go on with: .* --learning_rate 0.00015$"):
        journal.save(1)


def test_no_signal_interrupts_a_save(open_journal, stop, monkeypatch):
    journal, save = open_journal(), Checkpoints.save

    def interrupted(self, step):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        save(self, step)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    journal.save(2)
    assert stop.received == signal.SIGINT and journal.checkpoints.steps() == [2]


def test_what_is_left_to_go_on_from(open_journal, tmp_path):
    journal = open_journal()
    assert journal.remedy().startswith("No checkpoint was due yet; go on with: python train.py --load_model")
    journal.save(2)
    assert journal.remedy() == f"The checkpoint of step 2 is intact; go on with: python train.py --load_model {tmp_path}"
    journal.run = tmp_path / "gone"
    assert journal.remedy() == "The folder is gone, and its checkpoints with it"


# --- the end


def test_the_end_is_saved_and_recorded(open_journal, tmp_path):
    journal = open_journal()
    journal.end(6)
    assert (events(tmp_path), journal.checkpoints.steps()) == ([("started", 0), ("finished", 6)], [6])


def test_what_is_saved_already_is_not_saved_again(open_journal, monkeypatch):
    journal = open_journal()
    journal.save(6)
    monkeypatch.setattr(Checkpoints, "save", None)
    journal.end(6)


def test_a_stop_is_recorded_with_its_signal(open_journal, tmp_path, stop):
    journal, stop.received = open_journal(), signal.SIGTERM
    journal.end(3)
    assert events(tmp_path)[-1] == ("stopped", 3) and history(tmp_path)[-1]["why"] == "SIGTERM"
    assert journal.checkpoints.steps() == [3]


def test_trouble_is_saved_recorded_and_said(open_journal, tmp_path):
    journal = open_journal()
    with pytest.raises(Stopped) as error:
        journal.end(3, "x.tfrecords: record 3")
    again = f"python train.py --load_model {tmp_path}"
    assert str(error.value) == f"x.tfrecords: record 3. Saved at step 3; then go on with: {again}"
    assert history(tmp_path)[-1]["why"] == "x.tfrecords: record 3" and journal.checkpoints.steps() == [3]


# --- test pictures


def test_the_best_is_kept(open_journal, tmp_path, capsys):
    tests = Tests(features=True, results=[(0.3, 0.1), (0.05, 0.11), (0.04, 0.13), (0.01, 0.2)])
    journal = open_journal(tests=tests, eval_every=2, keep_every=5)
    kept = []
    for step in range(1, 8):
        journal.evaluate(step)
        kept.append((journal.checkpoints.best, journal.checkpoints.steps()))
    journal.evaluate(6)  # a second time
    journal.end(7)
    assert tests.seen == [5, 250]  # G first
    # 7 is no multiple, and not the end
    assert kept == [(None, []), (2, [2]), (2, [2]), (4, [2, 4]), (4, [2, 4]), (4, [2, 4]), (4, [2, 4])]
    found = run_folder.evaluation(tmp_path)
    assert (found["best"]["step"], found["best"]["G_kid"], found["last"]["step"], found["last"]["F_kid"]) == (4, 0.05, 6, 0.13)
    err = capsys.readouterr().err
    assert "step 4, on test pictures: G KID×1000 50.0 ± 10.0, F KID×1000 110.0 ± 20.0, cycle error 10.0 and 20.0 %, the best so far" in err
    assert err.count("the best so far") == 2 and err.count("on test pictures") == 3
    assert scalars(tmp_path)["test/G_kid"] == [(2, pytest.approx(0.3)), (4, pytest.approx(0.05)), (6, pytest.approx(0.04))]
    (sheet, *_) = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload().Tensors("test")
    assert tf.io.decode_image(tf.make_ndarray(sheet.tensor_proto)[2]).shape == (4, 6, 3)


@pytest.mark.parametrize(("later", "best"), [((0.1, 0.35), 4), ((0.35, 0.1), 4), ((0.1, 0.45), 2), ((0.45, 0.1), 2), ((0.3, 0.2), 2)])
def test_the_best_has_the_smallest_sum_of_both(open_journal, tmp_path, later, best):
    journal = open_journal(tests=Tests(features=True, results=[(0.3, 0.2), later]), eval_every=2)
    for step in (2, 4):
        journal.evaluate(step)
    assert run_folder.evaluation(tmp_path)["best"]["step"] == best


def test_the_last_step_is_measured_too(open_journal, tmp_path):
    journal = open_journal(tests=Tests(features=True, results=[(0.1, 0.1)]), eval_every=4)
    for step in (5, 6):
        journal.evaluate(step)
    assert run_folder.evaluation(tmp_path)["last"]["step"] == 6


def test_a_best_whose_checkpoint_is_gone_is_none(open_journal, tmp_path):
    run_folder.note_evaluation(tmp_path, {"step": 1}, {"step": 1, "G_kid": 0.0, "F_kid": 0.0})
    journal = open_journal(tests=Tests(features=True, results=[(0.3, 0.3)]), eval_every=2)
    journal.save(2)
    journal.evaluate(2)
    assert run_folder.evaluation(tmp_path)["best"]["step"] == 2 == journal.checkpoints.best


def test_without_features_nothing_is_the_best(open_journal, tmp_path, capsys):
    journal = open_journal(tests=Tests(features=None, results=[(0.3, 0.3)]), eval_every=2)
    journal.evaluate(2)
    assert run_folder.evaluation(tmp_path).keys() == {"last"} and journal.checkpoints.steps() == []
    assert "step 2, on test pictures: cycle error 10.0 and 20.0 %\n" in capsys.readouterr().err


def test_a_stop_does_not_wait_for_the_measuring_which_is_made_up_for(open_journal, tmp_path, stop):
    tests = Tests(features=True, results=[(0.3, 0.3)])
    stop.received = signal.SIGTERM
    open_journal(tests=tests, eval_every=2).evaluate(2)
    assert run_folder.evaluation(tmp_path) == {} and len(tests.results) == 1
    stop.received = None
    open_journal(step=2, changed={}, tests=tests, eval_every=2)
    assert run_folder.evaluation(tmp_path)["last"]["step"] == 2


def test_test_pictures_that_vanish_do_not_stop_training(open_journal, tmp_path, capsys):
    tests = Tests(features=True, results=[InputError("0.png: No such file"), InputError("0.png: No such file"), (0.1, 0.1)])
    journal = open_journal(tests=tests, eval_every=2)
    for step in (2, 4, 6):
        journal.evaluate(step)
    err = capsys.readouterr().err
    assert err.count("step 2: 0.png: No such file; not measured") == err.count("not measured") == 1
    assert run_folder.evaluation(tmp_path)["last"]["step"] == 6 and events(tmp_path)[1] == ("test pictures", 2)


def test_a_run_without_test_pictures_measures_nothing(open_journal, tmp_path):
    journal = open_journal()
    journal.evaluate(6)
    assert journal.translators == [] and not (tmp_path / "evaluation.json").exists()
