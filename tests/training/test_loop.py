"""The loop: what is done after which step, what ends it, and what is said then; a model of one weight stands in."""

import errno
import gc
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from standin import OneWeight, batches

from pictures.records import BadRecord
from system import cli
from system.cli import InputError, Stopped
from system.signals import StopSignals
from system.workers import GONE, TROUBLE, Workers
from training import loop, run_folder
from training.checkpoints import Checkpoints
from training.config import Config
from training.journal import Data, Journal


class Recorder:
    """A journal that keeps what it is told, as (what, step, …)."""

    def __init__(self, milestones=(), fails: tuple[str, int] | None = None, error: Exception | None = None):
        self.run, self.milestones, self.events, self.fails, self.error = "RUN", milestones, [], fails, error

    def note(self, what: str, step: int, *more) -> None:
        self.events.append((what, step, *more))
        if self.fails == (what, step):
            raise self.error

    def begin(self, step, where):
        self.note("begin", step, where)

    def log(self, step, losses):
        self.note("log", step, float(losses["loss/G"]))

    def pictures(self, step, sample):
        self.note("pictures", step, sample)

    def save(self, step):
        self.note("save", step)

    def evaluate(self, step):
        self.note("evaluate", step)

    def progress(self, step, losses):
        self.note("progress", step, float(losses["loss/G"]))

    def end(self, step, trouble):
        self.note("end", step, trouble)

    @property
    def checkpoints(self) -> SimpleNamespace:
        return SimpleNamespace(is_milestone=lambda step: step in self.milestones)

    def remedy(self) -> str:
        return "REMEDY"

    def steps(self, what: str) -> list[int]:
        return [step for event, step, *_ in self.events if event == what]


@pytest.fixture
def one() -> Workers:
    return Workers(tf.distribute.get_strategy())


@pytest.fixture
def stop():
    with StopSignals() as stop:
        yield stop


def model(total: int = 6, **settings) -> OneWeight:
    return OneWeight(Config(**{"log_every": 2, "image_every": 3, "save_every": 4, "learning_rate": 0.1, **settings}), total)


def data(feed=batches, left_out=dict) -> Data:
    return Data(feed, (5, 3), left_out)


# --- what is due after which step


def test_everything_is_done_after_the_step_at_which_it_is_due(one, stop):
    trained, journal = model(), Recorder(milestones=(5,))
    assert loop.train(trained, data(), journal, one, stop, 0) == 6
    assert journal.events[0] == ("begin", 0, "CPU") and journal.events[-1] == ("end", 6, None)
    assert journal.steps("log") == [1, 2, 4, 6] and journal.steps("pictures") == [1, 3, 6]
    assert journal.steps("save") == [4, 5]  # not the first, as nothing is lost by then; the last one is `end`'s
    assert journal.steps("evaluate") == journal.steps("progress") == [1, 2, 3, 4, 5, 6]
    order = [what for what, step, *_ in journal.events if step == 4]
    assert order == ["log", "save", "evaluate", "progress"]  # looked at before it is saved, and saved before it is the best


def test_the_steps_are_those_of_the_batches_and_their_losses_are_reported(one, stop):
    trained, journal, weight = model(), Recorder(), 0.5
    loop.train(trained, data(), journal, one, stop, 0)
    losses, feed = [], batches(0)
    for _ in range(6):
        losses.append(weight**2)
        x, y = next(feed)
        weight += 0.1 * (np.mean(x) + 2 * np.mean(y))
    assert float(trained.weight) == pytest.approx(weight)
    for what in ("log", "progress"):
        assert [loss for event, _, *more in journal.events if event == what for loss in more] == pytest.approx(
            [losses[step - 1] for step in journal.steps(what)]
        )


def test_a_run_goes_on_with_the_batch_of_its_step(one, stop):
    undisturbed, cut = model(), model()
    loop.train(undisturbed, data(), Recorder(), one, stop, 0)
    cut.learning_rate.total_steps = 4
    loop.train(cut, data(), Recorder(), one, stop, 0)
    cut.learning_rate.total_steps, journal = 6, Recorder()
    assert loop.train(cut, data(), journal, one, stop, 4) == 6
    assert float(cut.weight) == float(undisturbed.weight) and journal.events[0] == ("begin", 4, "CPU")
    assert journal.steps("log") == [5, 6]  # the first one after a start shows that it goes on


def test_pictures_are_of_the_first_replica(stop):
    def feed(step):
        return iter([(tf.fill((4, 1, 1, 3), 4.0), tf.fill((4, 1, 1, 3), 8.0))])

    journal, spread = Recorder(), []
    workers = SimpleNamespace(replicas_here=2, hear=lambda word: [word], where=lambda: "2 × CPU")
    workers.spread = lambda rows: spread.append(rows) or rows
    workers.to_the_end = Workers(tf.distribute.get_strategy()).to_the_end
    loop.train(model(1), data(feed), journal, workers, stop, 0)
    sample = next(more[0] for what, _, *more in journal.events if what == "pictures")
    assert sample["X/input"].shape == sample["D_Y/true"].shape == (2, 1, 1, 3)
    assert float(sample["X/input"][0, 0, 0, 0]) == 4 and float(sample["D_Y/true"][0, 0, 0, 0]) == 8
    assert [float(rows[0, 0, 0, 0]) for rows in spread] == [4, 8] and len(spread[0]) == 4


@pytest.mark.parametrize("last", [float("-inf"), 0.0])
def test_a_gate_opens_by_steps_or_by_time_whichever_is_first(monkeypatch, last):
    now = 0.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    gate, opened = loop.Gate(steps=10, seconds=5, last=last), []
    for step in range(1, 41):
        now += 0.1 if step <= 20 else 2.0
        if gate.due(step):
            opened.append(step)
    assert opened == [*([] if last == 0 else [1]), 10, 20, 23, 26, 29, 30, 33, 36, 39, 40]


def test_what_is_slow_opens_the_gates_by_time(one, stop, monkeypatch):
    """A step of 40 seconds: scalars after each, pictures and checkpoints after 300."""
    now = 0.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)

    def feed(step):
        nonlocal now
        for batch in batches(step):
            yield batch
            now += 40

    journal = Recorder()
    loop.train(model(17, log_every=100, image_every=100, save_every=100), data(feed), journal, one, stop, 0)
    assert journal.steps("log") == list(range(1, 18))
    assert journal.steps("pictures") == [1, 9, 17] and journal.steps("save") == [9, 17]


# --- what ends it


def feed_until(last: int, act):
    """Batches until step `last`, before which something happens."""

    def feed(step):
        for batch in batches(step):
            if step == last:
                act()
            yield batch
            step += 1

    return feed


def raises(error: Exception):
    def act():
        raise error

    return act


def test_a_signal_ends_it_before_the_next_step(one, stop):
    journal, send = Recorder(), lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert loop.train(model(), data(feed_until(3, send)), journal, one, stop, 0) == 3
    assert journal.events[-1] == ("end", 3, None) and stop.received == signal.SIGTERM


@pytest.mark.parametrize("error", [BadRecord("x: record 3"), InputError("x: no record is left")])
def test_trouble_with_the_data_ends_it(one, stop, error):
    journal = Recorder()
    with pytest.raises(Stopped, match=str(error)):
        loop.train(model(), data(feed_until(3, raises(error))), journal, one, stop, 0)
    assert journal.events[-1] == ("end", 3, str(error))


def in_company(index: int, *words: int, count: int = 2) -> SimpleNamespace:
    """One of two workers; what the other says, step by step."""
    words = iter(words)
    heard = SimpleNamespace(said=[])

    def hear(word=0):
        heard.said.append(word)
        other = word if word >= 2**32 else next(words, 0)  # of numbers to be compared it has the same
        return [word, other] if index == 0 else [other, word]

    workers = Workers(tf.distribute.get_strategy(), index, count)
    workers.hear, workers.replicas_here, workers.said = hear, 1, heard.said
    return workers


@pytest.mark.parametrize(("word", "trouble"), [(TROUBLE, True), (GONE, True), (signal.SIGTERM, False), (signal.SIGINT, False)])
@pytest.mark.parametrize("chief", [True, False])
def test_what_another_worker_has_ends_it_for_all(stop, word, trouble, chief):
    workers, journal = in_company(0 if chief else 1, 0, 0, word), Recorder()
    words = f"worker {1 if chief else 0} cannot go on; it says why"
    if trouble:
        with pytest.raises(Stopped, match=words):
            loop.train(model(), data(), journal if chief else None, workers, stop, 0)
    else:
        assert loop.train(model(), data(), journal if chief else None, workers, stop, 0) == 2
    assert stop.received == (None if trouble else word)
    if chief:
        assert journal.events[-1] == ("end", 2, words if trouble else None)


def test_workers_hear_of_trouble_and_of_signals(stop):
    workers = in_company(0)
    with pytest.raises(Stopped, match="BAD"):
        loop.train(model(), data(feed_until(1, raises(BadRecord("BAD")))), Recorder(), workers, stop, 0)
    assert workers.said[:2] == [0, TROUBLE]
    workers = in_company(0)
    loop.train(model(), data(feed_until(1, lambda: os.kill(os.getpid(), signal.SIGINT))), Recorder(), workers, stop, 0)
    assert workers.said[:2] == [0, signal.SIGINT]


def test_without_a_journal_nothing_is_kept_and_what_is_left_out_is_said_once(stop, capsys, monkeypatch):
    bad: dict[str, str] = {"X 0": "x: record 0; left out"}
    trained = model()
    monkeypatch.setattr(trained, "sample", None)
    feed = feed_until(2, lambda: bad.update({"Y 7": "y: record 7; left out"}))
    assert loop.train(trained, data(feed, lambda: bad), None, in_company(1), stop, 0) == 6
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "step 1: x: record 0; left out\nstep 3: y: record 7; left out\n")
    assert int(trained.step) == 6


@pytest.mark.parametrize("moment", [("begin", 0), ("log", 4), ("save", 4), ("end", 6)])
def test_what_cannot_be_written_is_one_line(one, stop, moment):
    journal = Recorder(fails=moment, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(Stopped) as error:
        loop.train(model(), data(), journal, one, stop, 0)
    assert str(error.value) == f"RUN: cannot be written at step {moment[1]} (No space left on device). REMEDY"


def test_a_follower_names_itself(stop):
    workers = in_company(1)
    with pytest.raises(Stopped, match=r"^worker 1: cannot be written at step 2 \(.*\). Worker 0 has the checkpoints; start all"):
        loop.train(model(), data(feed_until(2, raises(OSError(errno.EIO, "broken")))), None, workers, stop, 0)
    assert workers.said[-1] == GONE


def test_an_error_of_the_program_is_no_error_of_the_disk(one, stop):
    with pytest.raises(KeyError):
        loop.train(model(), data(), Recorder(fails=("log", 2), error=KeyError("a")), one, stop, 0)


def test_a_lost_worker_is_one_line_with_the_step(stop):
    error = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    for chief, remedy in ((True, "REMEDY"), (False, "Worker 0 has the checkpoints; start all workers again")):
        trained, workers = model(), in_company(0 if chief else 1)
        feed = feed_until(2, raises(error))
        with pytest.raises(Stopped) as stopped:
            loop.train(trained, data(feed), Recorder() if chief else None, workers, stop, 0)
        assert str(stopped.value) == f"another worker is gone since step 2. {remedy}"


# --- a run, from its checkpoint on


@pytest.fixture
def folder(tmp_path):
    """A run of four steps with a checkpoint each."""
    for step in range(1, 5):
        trained = model()
        trained.weight.assign(step)
        trained.step.assign(step)
        Checkpoints(tmp_path, trained).save(step)
    return tmp_path


def test_a_run_is_restored_trained_and_told_of(folder, one, capsys):
    trained = model()
    assert loop.run(trained, data(), one, folder, changed={}) == cli.DONE
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{folder}: trained to step 6; export it with: {run_folder.export_command(folder, trained.config)}"
    )
    expected, feed = 4.0, batches(4)
    for x, y in (next(feed) for _ in range(2)):
        expected += 0.1 * (np.mean(x) + 2 * np.mean(y))
    assert float(trained.weight) == pytest.approx(expected)
    assert Checkpoints(folder, model()).newest == 6


def test_a_finished_run_is_not_begun_again(folder, one, capsys):
    before = sorted(folder.iterdir())
    assert loop.run(model(4), data(raises(AssertionError())), one, folder, changed={"max_steps": [3, 4]}) == cli.DONE
    assert "trained to step 4" in capsys.readouterr().out and sorted(folder.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_exit_status(folder, one, capsys, number):
    feed = feed_until(5, lambda: os.kill(os.getpid(), number))
    assert loop.run(model(), data(feed), one, folder, changed={}) == 128 + number
    lines = capsys.readouterr().err.splitlines()
    assert "saving at step 5" in lines and sum(line.startswith("stopping after the step under way") for line in lines) == 1
    assert lines[-1] == f"stopped and saved at step 5; continue with: python train.py --load_model {folder}"
    assert Checkpoints(folder, model()).newest == 5


def test_the_end_does_not_wait_for_the_garbage_of_the_graphs(folder, one, monkeypatch):
    seen, end = [], Journal.end
    monkeypatch.setattr(Journal, "end", lambda *args: seen.append(gc.isenabled()) or end(*args))
    loop.run(model(), data(), one, folder, changed={})
    assert seen == [False] and gc.isenabled()
    monkeypatch.setattr(Journal, "end", lambda *args: raises(InputError("a"))())
    with pytest.raises(InputError):
        loop.run(model(7), data(), one, folder, changed={})
    assert gc.isenabled()


def test_only_the_chief_talks(folder, capsys):
    trained = model()
    assert loop.run(trained, data(), in_company(1), folder, changed={}) == cli.DONE
    assert int(trained.step) == 6 and Checkpoints(folder, model()).newest == 4
    stop_there = feed_until(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert loop.run(model(), data(stop_there), in_company(1), None) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "")


def test_the_newest_good_checkpoint_is_gone_on_from(folder, one, capsys):
    (folder / "model.ckpt-4.data-00000-of-00001").write_bytes(b"")
    trained = model()
    checkpoints, step = loop.restore(trained, one, folder)
    assert (step, float(trained.weight), checkpoints.newest) == (3, 3.0, 3)
    assert capsys.readouterr().err == f"{folder}: the checkpoint of step 4 is damaged and set aside; that of step 3 is taken\n"


def test_a_follower_restores_and_repairs_nothing(folder, capsys):
    (folder / "model.ckpt-4.data-00000-of-00001").write_bytes(b"")
    trained, before = model(), sorted(folder.iterdir())
    workers = in_company(1)
    workers.check_alike = lambda *said: checked.append(said)
    checked: list = []
    assert loop.restore(trained, workers, folder)[1] == 3 and float(trained.weight) == 3
    assert sorted(folder.iterdir()) == before and capsys.readouterr().err == ""
    assert checked == [("checkpoints", "3")]
    assert loop.restore(model(), workers, None) == (None, 0)  # there is no run to be seen yet


def test_the_best_and_the_milestones_are_known_to_the_checkpoints(folder, one):
    run_folder.note_evaluation(folder, {"step": 4}, {"step": 2, "G_kid": 0.5, "F_kid": 0.5})
    checkpoints, _ = loop.restore(model(keep_every=3), one, folder)
    assert (checkpoints.best, checkpoints.is_milestone(6), checkpoints.is_milestone(4)) == (2, True, False)


def test_an_end_that_lies_behind_is_refused(folder, one):
    with pytest.raises(InputError, match="is at step 4, and should end at step 3: raise --max_steps or --n_epochs"):
        loop.restore(model(3), one, folder)
