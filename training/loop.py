"""The training loop: a step, then what is due, until the end, a signal, or trouble. What a run reports and keeps is its journal's work."""

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pictures.records import BadRecord
from system import cli
from system.cli import InputError, Stopped
from system.signals import StopSignals
from system.storage import AnyPath
from system.workers import GONE, TROUBLE, Workers
from training import run_folder
from training.checkpoints import Checkpoints
from training.journal import Batch, Data, Journal

LOG_SECONDS, IMAGE_SECONDS, SAVE_SECONDS = 30, 300, 300  # on a slow machine nobody should wait for step 100 to see anything
STOPPING = "stopping after the step under way, and saving"


def run(model, data: Data, workers: Workers, folder: AnyPath | None, tests=None, changed: dict | None = None) -> int:
    """Trains `model` from its newest checkpoint to its last step, a signal, or trouble. Returns the exit status.

    `folder`: the run's, whose lock the caller holds; None for a worker of a new run that is not the chief. `tests`: `TestPictures`, or
    what measures like them. `changed`: the settings that a continued run changes; None for a new run. Raises `InputError` and `Stopped`.
    """
    checkpoints, step = restore(model, workers, folder)
    try:
        with StopSignals(STOPPING if workers.is_chief else None) as stop:
            journal = Journal(model, data, checkpoints, stop, tests, changed) if workers.is_chief else None
            if step < model.learning_rate.total_steps:
                step = train(model, data, journal, workers, stop, step)
    finally:
        gc.enable()
    if stop.received:
        if journal:
            command = run_folder.continue_command(folder)
            print(f"stopped and saved at step {step}; continue with: {command}", file=sys.stderr, flush=True)
        return 128 + stop.received
    if journal:
        export = run_folder.export_command(folder, model.config)
        print(f"{cli.printable(str(folder))}: trained to step {step}; export it with: {export}", flush=True)
    return cli.DONE


def restore(model, workers: Workers, folder: AnyPath | None) -> tuple[Checkpoints | None, int]:
    """Gives every worker's model the newest checkpoint. Returns the run's checkpoints, and the step. Raises `InputError`."""
    checkpoints, step, total = None, 0, model.learning_rate.total_steps
    for chief in (True, False):  # the chief first: it repairs what a crash has left
        with workers.all_or_none():
            if folder is None or chief != workers.is_chief:
                continue
            checkpoints = Checkpoints(folder, model, model.config.keep_every, run_folder.evaluation(folder).get("best", {}).get("step"))
            step, damaged = checkpoints.restore(mend=chief)
            for other in damaged if chief else ():
                words = f"the checkpoint of step {other} is damaged and set aside; that of step {step} is taken"
                print(f"{cli.printable(str(folder))}: {words}", file=sys.stderr)
            if step > total:
                raise InputError(f"{folder}: is at step {step}, and should end at step {total}: raise --max_steps or --n_epochs")
    workers.check_alike("checkpoints", str(step))
    return checkpoints, step


def train(model, data: Data, journal: Journal | None, workers: Workers, stop: StopSignals, step: int) -> int:
    """Trains from `step` on. Returns the step at which it ended: the last one, or that at which a worker had a signal. Raises `Stopped`."""
    config, total, trouble = model.config, model.learning_rate.total_steps, None
    log_gate, picture_gate = Gate(config.log_every, LOG_SECONDS), Gate(config.image_every, IMAGE_SECONDS)
    save_gate = Gate(config.save_every, SAVE_SECONDS, last=time.monotonic())
    name = journal.run if journal else f"worker {workers.index}"
    remedy = journal.remedy if journal else lambda: "Worker 0 has the checkpoints; start all workers again"

    ends_with_others = workers.to_the_end(lambda: f"another worker is gone since step {step}. {remedy()}")
    with ends_with_others, one_line_errors(lambda reason: f"{name}: cannot be written at step {step} ({reason}). {remedy()}"):
        if journal:
            journal.begin(step, workers.where())
        batches = data.batches(step) if journal else reporting(data, step)
        while step < total:
            batch, trouble = next_batch(batches, workers, stop)
            if batch is None:
                break
            losses = model.train_step(*map(workers.spread, batch))
            step += 1
            if journal is None:
                continue
            if log_gate.due(step):
                journal.log(step, losses)
            if picture_gate.due(step):
                rows = len(batch[0]) // workers.replicas_here
                journal.pictures(step, model.sample(*(pictures[:rows] for pictures in batch[:2])))
            if save_gate.due(step) or journal.checkpoints.is_milestone(step):
                journal.save(step)
            journal.evaluate(step)
            journal.progress(step, losses)
        gc.disable()  # to go through what the graphs have left would take up to 15 seconds now, and nobody needs the memory any more
        if journal:
            journal.end(step, trouble)
        if trouble:
            raise Stopped(trouble)
    return step


def next_batch(batches: Iterator[Batch], workers: Workers, stop: StopSignals) -> tuple[Batch | None, str | None]:
    """Returns the next batch, and None; if a worker has had a signal or trouble, None, as all stop here then, and what the trouble is."""
    batch = trouble = None
    try:
        batch = next(batches)
    except (BadRecord, InputError) as e:  # the latter: not one record is left
        trouble = str(e)
    heard = workers.hear(TROUBLE if trouble else stop.received or 0)
    worker, word = next(((worker, word) for worker, word in enumerate(heard) if word), (0, 0))
    if word in (TROUBLE, GONE):
        return None, trouble or f"worker {worker} cannot go on; it says why"
    if word:
        stop.received = stop.received or word
        return None, None
    return batch, None


def reporting(data: Data, step: int) -> Iterator[Batch]:
    """The batches of a worker that has no journal: it says on stderr which of the records that it alone reads are left out, each once."""
    reported: set[str] = set()
    for now, batch in enumerate(data.batches(step), step + 1):
        for topic, words in data.left_out().items():
            if topic not in reported:
                print(f"step {now}: {words}", file=sys.stderr)
        reported |= data.left_out().keys()
        yield batch


@contextlib.contextmanager
def one_line_errors(words: Callable[[str], str]) -> Iterator[None]:
    """Turns an error of storage into `Stopped`, with the `words` for the system's reason."""
    try:
        yield
    except Exception as e:
        if (reason := cli.storage_error(e)) is None:
            raise
        raise Stopped(words(reason)) from None


@dataclass
class Gate:
    """Says when something is due: at first, and then every so many steps, or every so many seconds if that is sooner."""

    steps: int
    seconds: float
    last: float = float("-inf")

    def due(self, step: int) -> bool:
        now = time.monotonic()
        if step % self.steps and now - self.last < self.seconds:
            return False
        self.last = now
        return True
