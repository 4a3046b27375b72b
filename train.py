"""Trains a CycleGAN on two TFRecord files, or continues a run that was stopped (--load_model)."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cli
import run_folder
from cli import InputError, Stopped
from config import Config, add_arguments

LOG_SECONDS, IMAGE_SECONDS, SAVE_SECONDS = 30, 300, 300  # on a slow machine nobody should wait for step 100 to see anything


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--load_model", metavar="RUN", help="continue this run: a name in --checkpoints_dir or a path; its settings hold")
    parser.add_argument("--checkpoints_dir", metavar="DIR", type=Path, default=Path("checkpoints"), help="where run folders are made")
    parser.add_argument("--run_name", metavar="NAME", help="name of the run folder [the time, YYYYmmdd-HHMM]")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    settings = {k: v for k, v in vars(args).items() if k not in ("load_model", "checkpoints_dir", "run_name")}
    share_threads()
    if settings.get("precision") == "auto":
        cli.quiet_tensorflow()
        from utils import native_precision

        settings["precision"] = native_precision()  # which the run then keeps, on whatever device it is continued
    if args.load_model is None:
        return start(args.checkpoints_dir, args.run_name, Config(**settings))
    if args.run_name is not None:
        raise InputError(f"--run_name {args.run_name}: a run that continues keeps its folder; leave out --run_name or --load_model")
    return resume(run_folder.find_run(args.load_model, args.checkpoints_dir), settings)


def share_threads() -> None:
    """Gives each of the two translations, whose operations run side by side all through a step, half of the processors.

    Both would otherwise split every operation over all of them, and wait for each other. To be called before TensorFlow is loaded.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))


def start(checkpoints_dir: Path, name: str | None, config: Config) -> int:
    """Begins a run. Its folder appears when everything else has been found in order."""
    if name is not None:
        run_folder.check_run_name(name, checkpoints_dir)
    X, Y = open_data(config)
    model = build_model(config, X, Y)
    run = run_folder.new_run(checkpoints_dir, name, config, {"X": X.fingerprint, "Y": Y.fingerprint})
    with run_folder.locked(run):
        return Training(model, X, Y, run).go()


def resume(run: Path, settings: dict) -> int:
    """Continues a run with some settings changed. Raises `InputError` with all that contradicts it."""
    with run_folder.locked(run):
        before = Config.load(run)
        config, wrong = before.changed(settings)
        X, Y = open_data(config)
        wrong += run_folder.data_contradictions(run, X, Y)
        if wrong:
            raise InputError(f"{', '.join(wrong)}: cannot change when a run continues; leave out, or start a new run")
        model = build_model(config, X, Y)
        return Training(model, X, Y, run).go(changed=before.differences(config))


def open_data(config: Config) -> tuple:
    """Returns the readers of X and Y, checked."""
    cli.quiet_tensorflow()
    from reader import Reader

    sizes = config.image_size, config.load_size, config.batch_size
    files = {"X": config.X, "Y": config.Y}
    return tuple(Reader(file, *sizes, name, config.seed, skip_bad_records=config.skip_bad_records) for name, file in files.items())


def build_model(config: Config, X, Y):
    import keras

    from model import CycleGAN, training_length

    keras.utils.set_random_seed(config.seed)
    return CycleGAN(config, *training_length(config, max(len(X), len(Y))))


class Training:
    """A run under way: the loop, and what it leaves in the run's folder, whose lock the caller holds."""

    def __init__(self, model, X, Y, run: Path):
        from checkpoints import Checkpoints

        self.model, self.X, self.Y, self.run = model, X, Y, run
        self.config, self.total = model.config, model.learning_rate.total_steps
        self.checkpoints = Checkpoints(run, model, self.config.keep_every)
        self.step, damaged = self.checkpoints.restore()
        for step in damaged:
            print(f"{run}: the checkpoint of step {step} is damaged and set aside; that of step {self.step} is taken", file=sys.stderr)
        self.saved = self.checkpoints.newest
        self.losses: dict = {}
        self.told: set[str] = set()
        self.progress = cli.Progress(self.total, "steps")
        self.go_on = f"python train.py --load_model{'=' if str(run).startswith('-') else ' '}{shlex.quote(str(run))}"

    def go(self, changed: dict | None = None) -> int:
        """Trains until the end, a signal, or trouble. `changed`: the settings that a continued run changes. Returns the exit status."""
        if self.step > self.total:
            raise InputError(f"{self.run}: is at step {self.step}, and should end at step {self.total}: raise --max_steps or --n_epochs")
        with StopSignals() as self.stop, self.one_line_errors():
            if self.saved != self.total:
                self.open(changed)
                trouble = self.loop()
                if self.saved != self.step:
                    self.save()
                self.close(trouble)
        if self.stop.received:
            print(f"stopped and saved at step {self.step}; continue with: {self.go_on}", file=sys.stderr)
            return 128 + self.stop.received
        print(
            f"{self.run}: trained to step {self.step}; export it with: python export_graph.py --checkpoint_dir {shlex.quote(str(self.run))}"
        )
        return cli.DONE

    def open(self, changed: dict | None) -> None:
        from summaries import Summaries
        from utils import device_name

        print(f"{self.run}: {len(self.X)} + {len(self.Y)} pictures, steps {self.step} to {self.total}, on {device_name()}", flush=True)
        print(f"watch it: tensorboard --logdir {shlex.quote(str(self.run))}", flush=True)
        resumed = changed is not None
        if resumed:
            self.config.save(self.run)
        run_folder.record(self.run, "continued" if resumed else "started", self.step, **({"changed": changed} if changed else {}))
        self.summaries = Summaries(self.run, self.step)

    def loop(self) -> str | None:
        """A step, then what is due. Returns what is wrong with the data, if that ends it."""
        from reader import BadRecord, feed_pairs

        batches = feed_pairs(self.X, self.Y, self.step)
        log, pictures = Gate(self.config.log_every, LOG_SECONDS), Gate(self.config.image_every, IMAGE_SECONDS)
        save = Gate(self.config.save_every, SAVE_SECONDS, last=time.monotonic())
        while self.step < self.total and not self.stop.received:
            try:
                x, y = next(batches)
            except (BadRecord, InputError) as e:  # the latter: not one record is left
                return str(e)
            self.losses = self.model.train_step(x, y)
            self.step += 1
            if log.due(self.step):
                self.log()
            if pictures.due(self.step):
                self.summaries.pictures(self.model.sample(x, y), self.step)
            if save.due(self.step) or self.checkpoints.is_milestone(self.step):
                self.save()
            self.progress.update(self.step, self.describe)
        return None

    def log(self) -> None:
        from health import findings

        self.check_finite(weights=False)
        skipped = len(self.X.bad) + len(self.Y.bad)
        self.summaries.scalars(self.losses | ({"data/skipped_records": skipped} if skipped else {}), self.step)
        self.progress.update(self.step, self.describe, force=not self.progress.live)
        health = {name.removeprefix("health/"): float(v) for name, v in self.losses.items() if name.startswith("health/")}
        for topic, words in findings(health, self.step).items():
            self.tell(topic, f"warning: {words}")
        for reader in (self.X, self.Y):
            for record, what in reader.bad.items():
                self.tell(f"{reader.name} {record}", f"{reader.file}: record {record} (counted from 0): {what}; left out")

    def tell(self, topic: str, words: str) -> None:
        """Says something once: on the console, in TensorBoard and in the run's history."""
        if topic not in self.told:
            self.told.add(topic)
            self.progress.say(f"step {self.step}: {words}")
            self.summaries.text(f"health/{topic}", words, self.step)
            run_folder.record(self.run, topic, self.step, says=words)

    def save(self) -> None:
        self.check_finite()
        with self.stop.held_back():
            self.checkpoints.save(self.step)
        self.saved = self.step

    def close(self, trouble: str | None) -> None:
        self.summaries.close()
        self.progress.close()
        why = signal.Signals(self.stop.received).name if self.stop.received else trouble
        run_folder.record(self.run, "stopped" if why else "finished", self.step, **({"why": why} if why else {}))
        if trouble:
            raise Stopped(f"{trouble}. Saved at step {self.step}; then go on with: {self.go_on}")

    def check_finite(self, weights: bool = True) -> None:
        """Raises `Stopped` if a loss, or a weight, is no finite number, before such weights are saved."""
        broken = self.model.non_finite(weights)
        if broken:
            what, since = broken
            run_folder.record(self.run, "stopped", self.step, why=f"{what} not finite")
            slower = min(self.config.learning_rate / 2, Config.learning_rate)
            raise Stopped(
                f"{what}: not a finite number since step {since}; nothing of that is saved. {self.what_stands()} --learning_rate {slower:g}"
            )

    @contextlib.contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns an error in writing into one line that says what is left to go on from."""
        try:
            yield
        except Exception as e:
            reason = cli.storage_error(e)
            if reason is None:
                raise
            raise Stopped(f"{self.run}: cannot be written at step {self.step} ({reason}). {self.what_stands()}") from None

    def what_stands(self) -> str:
        if not self.run.is_dir():
            return "The folder is gone, and its checkpoints with it"
        newest = self.checkpoints.newest
        return (
            f"{'No checkpoint was due yet' if newest is None else f'The checkpoint of step {newest} is intact'}; go on with: {self.go_on}"
        )

    def describe(self) -> str:
        epochs = self.config.batch_size / max(len(self.X), len(self.Y))
        words = [f"epoch {self.step * epochs:.1f}/{self.total * epochs:.0f}"]
        words += [f"{name.removeprefix('loss/')} {float(v):.3f}" for name, v in self.losses.items() if name.startswith("loss/")]
        if self.progress.rate:
            words.append(f"{self.progress.rate * self.config.batch_size:.2f} pictures/s")
        return "  ".join(words)


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


class StopSignals:
    """Turns the first Ctrl-C, SIGTERM or hang-up into a note that the loop reads between steps; a second Ctrl-C stops at once."""

    def __enter__(self) -> "StopSignals":
        self.received, self.held = None, False
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup has set
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame) -> None:
        if self.received == number == signal.SIGINT and not self.held:
            raise KeyboardInterrupt
        self.received = number

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """In this block no signal stops anything: it is noted."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def __exit__(self, *exc) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(cli.run(main))
