"""What a run reports, on the console, in TensorBoard and in its history, and what it keeps: its checkpoints, and the best of them."""

import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tensorflow as tf

from system import cli, devices
from system.cli import InputError, Stopped
from system.progress import Progress
from system.signals import StopSignals
from training import run_folder
from training.checkpoints import Checkpoints
from training.config import Config
from training.health import averages_findings, findings
from training.summaries import TAGS, Summaries

Batch = tuple[tf.Tensor, ...]  # x, y and, where there are pairs beside them, those: all (B, H, W, 3)
Scalars = dict[str, tf.Tensor]


@dataclass
class Data:
    """What a run learns from."""

    batches: Callable[[int], Iterator[Batch]]  # from a step on, this worker's rows; raises `BadRecord` or `InputError`
    pictures: tuple[int, int]  # of X and of Y, on all workers
    left_out: Callable[[], dict[str, str]] = dict  # the records that are left out: a name for each → what to say of it


class Journal:
    """What a run reports and keeps in its folder. Of several workers only the chief has one.

    Its methods do what is due after a step. Raises `Stopped` instead of saving what is no finite number.
    """

    def __init__(self, model, data: Data, checkpoints: Checkpoints, stop: StopSignals, tests=None, changed: dict | None = None):
        self.model, self.data, self.checkpoints, self.stop, self.tests, self.changed = model, data, checkpoints, stop, tests, changed
        self.run, self.config, self.total = checkpoints.run, model.config, model.learning_rate.total_steps
        self.translators = model.translators() if tests else []
        self.bar = Progress(self.total, "steps")
        self.summaries: Summaries | None = None  # until it begins
        self.already_reported: set[str] = set()

    def begin(self, step: int, where: str) -> None:
        """`where`: the devices that compute, in words."""
        words = number_type_words(self.config.precision, devices.native_precision())
        X, Y = self.data.pictures
        print(f"{cli.printable(str(self.run))}: {X} + {Y} pictures, steps {step} to {self.total}, on {where}, in {words}", flush=True)
        print(f"watch it: tensorboard --logdir {run_folder.quoted(self.run)}", flush=True)
        if self.changed is not None:
            self.config.save(self.run)
        before = run_folder.history(self.run)
        tags = before[0].get("tags", 1) if before else TAGS
        event = "started" if self.changed is None else "continued"
        changed = {"changed": self.changed} if self.changed else {}
        run_folder.record(self.run, event, step, **changed, **({} if before else {"tags": tags}))
        self.summaries = Summaries(self.run, step, tags)
        if self.config.init_from and self.checkpoints.newest is None:
            print(f"begins with the networks of {cli.printable(self.config.init_from)}", flush=True)
            self.save(step)  # from here on it does not need that run
        if step:
            self.evaluate(step)  # if a stop has kept that from being done
        self.bar.say("building the training step, which takes up to a minute")

    def log(self, step: int, losses: Scalars) -> None:
        self._check_finite(step, weights=False)
        left_out = self.data.left_out()
        self.summaries.write(losses | ({"data/skipped_records": len(left_out)} if left_out else {}), step)
        self.progress(step, losses, force=not self.bar.live)
        health = {name.removeprefix("health/"): float(v) for name, v in losses.items() if name.startswith("health/")}
        warnings = {topic: f"warning: {words}" for topic, words in findings(health, step).items()}
        for topic, words in (warnings | left_out).items():
            self._report_once(step, topic, words)

    def pictures(self, step: int, sample: Scalars) -> None:
        self.summaries.write(sample, step)
        for topic, words in averages_findings(sample, step).items():
            self._report_once(step, topic, f"warning: {words}")

    def progress(self, step: int, losses: Scalars, force: bool = False) -> None:
        def words() -> str:
            epochs = self.config.batch_size / max(self.data.pictures)
            shown = [f"{self.bar.rate * self.config.batch_size:.2f} pictures/s"] if self.bar.rate else []
            shown += [f"epoch {epoch_words(step * epochs, self.total * epochs)}"]
            shown += [f"{name.removeprefix('loss/')} {float(v):.3f}" for name, v in losses.items() if name.startswith("loss/")]
            return "  ".join(shown)

        self.bar.update(step, words, force)

    def save(self, step: int) -> None:
        self._check_finite(step)
        with self.stop.held_back():
            self.checkpoints.save(step)

    def evaluate(self, step: int) -> None:
        """Measures on the test pictures if that is due and not done yet, and keeps the checkpoint if it is the best so far.

        A signal ends it; it is made up for when the run continues.
        """
        if self.tests is None or step % self.config.eval_every and step != self.total:
            return
        done = run_folder.evaluation(self.run)
        if done.get("last", {}).get("step") == step:
            return
        try:
            numbers, sheet = self.tests.measure(*self.translators, before_each=self.stop.check)
        except StopSignals.Received:
            return
        except InputError as e:  # no reason to stop training
            return self._report_once(step, "test pictures", f"{e}; not measured")
        self.summaries.write({f"test/{name}": value for name, value in numbers.items()} | {"test": sheet[tf.newaxis]}, step)
        words, now = self.tests.words(numbers), {"step": step, **numbers}
        best, score = done.get("best"), self.tests.score(now)
        if score is not None:
            best_score = self.tests.score(best) if best is not None and best["step"] in self.checkpoints.steps() else None
            if best_score is None or score < best_score:
                if self.checkpoints.newest != step:
                    self.save(step)
                self.checkpoints.keep_as_best(step)
                best = now
                words.append("the best so far")
        run_folder.note_evaluation(self.run, now, best)
        self.bar.say(f"step {step}, on test pictures: {', '.join(words)}")

    def end(self, step: int, trouble: str | None = None) -> None:
        """Saves, and closes everything. Raises `Stopped` if it was `trouble` with the data that ended the run."""
        if self.checkpoints.newest != step:
            self.bar.say(f"saving at step {step}")
            self.save(step)
        self.summaries.close()
        self.bar.close()
        why = signal.Signals(self.stop.received).name if self.stop.received else trouble
        run_folder.record(self.run, "stopped" if why else "finished", step, **({"why": why} if why else {}))
        if trouble:
            raise Stopped(f"{trouble}. Saved at step {step}; then go on with: {run_folder.continue_command(self.run)}")

    def remedy(self) -> str:
        """Says what is left to go on from when the run cannot be written."""
        if not self.run.is_dir():
            return "The folder is gone, and its checkpoints with it"
        newest = self.checkpoints.newest
        kept = "No checkpoint was due yet" if newest is None else f"The checkpoint of step {newest} is intact"
        return f"{kept}; go on with: {run_folder.continue_command(self.run)}"

    def _report_once(self, step: int, topic: str, words: str) -> None:
        """Reports something on the console, in TensorBoard and in the run's history, unless it was already."""
        if topic not in self.already_reported:
            self.already_reported.add(topic)
            self.bar.say(f"step {step}: {words}")
            self.summaries.write({f"health/{topic}": words}, step)
            run_folder.record(self.run, topic, step, says=words)

    def _check_finite(self, step: int, weights: bool = True) -> None:
        """Raises `Stopped` if a loss, or a weight, is no finite number."""
        if broken := self.model.non_finite(weights):
            what, since = broken
            run_folder.record(self.run, "stopped", step, why=f"{what} not finite")
            again = f"{self.remedy()} --learning_rate {min(self.config.learning_rate / 2, Config.learning_rate):g}"
            raise Stopped(f"{what}: not a finite number since step {since}; nothing of that is saved. {again}")


def epoch_words(now: float, total: float) -> str:
    """ "1.2 of 200"; a run of less than an epoch has more decimals."""
    digits = max(1, 1 - math.floor(math.log10(total)))
    return f"{now:.{digits}f} of {total:.{digits}f}".removesuffix(".0")


def number_type_words(precision: str, native: str) -> str:
    """Says what a run computes in, and why; `native`: what the device computes in by itself."""
    if precision == "float16":
        return precision
    if precision == native:
        return f"{precision}, " + ("as this device has no bfloat16" if native == "float32" else "which this device has")
    if precision == "float32":
        return f"{precision}, though this device has {native}, too"
    return f"{precision}, which this device only imitates, many times slower; --init_from and --precision float32 make a new run of it"
