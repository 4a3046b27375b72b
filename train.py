"""Trains a CycleGAN on two TFRecord files, or continues a run that was stopped (--load_model)."""

import argparse
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import cli
from cli import InputError
from config import CHECKPOINT_NAME, Config, add_arguments, check_run_name, find_run, new_run

LOG_SECONDS, IMAGE_SECONDS, SAVE_SECONDS = 30, 300, 300  # on a slow machine nobody should wait for step 100 to see anything
KEEP_CHECKPOINTS = 5


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--load_model", metavar="RUN", help="continue this run: a name in --checkpoints_dir or a path; its settings hold")
    parser.add_argument("--checkpoints_dir", metavar="DIR", type=Path, default=Path("checkpoints"), help="where run folders are made")
    parser.add_argument("--run_name", metavar="NAME", help="name of the run folder [the time, YYYYmmdd-HHMM]")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    typed = {k: v for k, v in vars(args).items() if k not in ("load_model", "checkpoints_dir", "run_name")}
    resumed = args.load_model is not None
    if args.run_name is not None:
        if resumed:
            raise InputError(f"--run_name {args.run_name}: a run that continues keeps its folder; leave out --run_name or --load_model")
        check_run_name(args.run_name, args.checkpoints_dir)
    run = find_run(args.load_model, args.checkpoints_dir) if resumed else None
    config = Config.load(run).changed(typed) if resumed else Config(**typed)

    cli.quiet_tensorflow()
    import keras

    from model import CycleGAN, training_length
    from reader import Reader

    X = Reader(config.X, config.image_size, config.load_size, config.batch_size, "X", config.seed)
    Y = Reader(config.Y, config.image_size, config.load_size, config.batch_size, "Y", config.seed)
    keras.utils.set_random_seed(config.seed)
    model = CycleGAN(config, *training_length(config, max(len(X), len(Y))))
    run = run or new_run(args.checkpoints_dir, args.run_name)
    checkpoints = open_checkpoints(model, run)
    if resumed:
        restore(checkpoints)
    config.save(run)
    return train(model, X, Y, run, checkpoints)


def open_checkpoints(model, run: Path):
    import tensorflow as tf

    return tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(run), KEEP_CHECKPOINTS, checkpoint_name=CHECKPOINT_NAME)


def restore(checkpoints) -> None:
    """Restores the newest checkpoint, all of it. Raises `InputError` if there is none, or it does not fit."""
    path = checkpoints.latest_checkpoint
    if path is None:
        raise InputError(f"--load_model {checkpoints.directory}: the run has no checkpoint yet; start it again under another name")
    try:
        status = checkpoints.checkpoint.restore(path)
        status.assert_existing_objects_matched()
        status.assert_consumed()
    except (AssertionError, ValueError):
        raise InputError(f"{path}: does not fit the settings in config.json beside it") from None


def train(model, X, Y, run: Path, checkpoints) -> int:
    """The loop: a step, then what is due. Returns the exit status."""
    import tensorflow as tf

    from utils import device_name

    config, total = model.config, model.learning_rate.total_steps
    start = step = int(model.step)
    steps_per_epoch = -(-max(len(X), len(Y)) // config.batch_size)
    print(f"{run}: {len(X)} + {len(Y)} pictures, steps {step} to {total}, on {device_name()}", flush=True)
    print(f"watch it: tensorboard --logdir {shlex.quote(str(run))}", flush=True)

    writer = tf.summary.create_file_writer(str(run))
    batches = iter(tf.data.Dataset.zip(X.feed(step), Y.feed(step)))
    log, pictures = Gate(config.log_every, LOG_SECONDS), Gate(config.image_every, IMAGE_SECONDS)
    save, saved = Gate(config.save_every, SAVE_SECONDS), start if checkpoints.latest_checkpoint else None
    progress = cli.Progress(total, "steps")
    losses = {}

    def describe() -> str:
        words = [f"epoch {step / steps_per_epoch:.1f}/{total / steps_per_epoch:.0f}"]
        words += [f"{name.removeprefix('loss/')} {float(v):.3f}" for name, v in losses.items() if name.startswith("loss/")]
        if progress.rate:
            words.append(f"{progress.rate * config.batch_size:.2f} pictures/s")
        return "  ".join(words)

    with StopSignals() as stop:
        while step < total and not stop.received:
            x, y = next(batches)
            losses = model.train_step(x, y)
            step += 1
            if log.due(step) or step == start + 1:
                write_scalars(writer, losses, step)
                progress.update(step, describe, force=not progress.live)
            if pictures.due(step) or step == start + 1:
                write_pictures(writer, model.sample(x, y), step)
            if save.due(step):
                checkpoints.save(step)
                saved = step
            progress.update(step, describe)
        if saved != step:
            checkpoints.save(step)
    writer.close()
    progress.close()
    if stop.received:
        print(f"stopped and saved at step {step}; continue with: python train.py --load_model {shlex.quote(str(run))}", file=sys.stderr)
        return cli.INTERRUPTED if stop.received == signal.SIGINT else cli.TERMINATED
    print(f"{run}: trained to step {step}; export it with: python export_graph.py --checkpoint_dir {shlex.quote(str(run))}")
    return cli.DONE


def write_scalars(writer, losses: dict, step: int) -> None:
    import tensorflow as tf

    with writer.as_default(step):
        for name, value in losses.items():
            tf.summary.scalar(name, value)
    writer.flush()


def write_pictures(writer, sample: dict, step: int) -> None:
    import tensorflow as tf

    from utils import convert2int

    with writer.as_default(step):
        for name, value in sample.items():
            if name.startswith("D_"):
                tf.summary.histogram(name, value)
            else:
                tf.summary.image(name, convert2int(value))
    writer.flush()


@dataclass
class Gate:
    """Says when something is due: every so many steps, or every so many seconds if that is sooner."""

    steps: int
    seconds: float
    last: float = field(default_factory=time.monotonic)

    def due(self, step: int) -> bool:
        now = time.monotonic()
        if step % self.steps and now - self.last < self.seconds:
            return False
        self.last = now
        return True


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a note that the loop reads between steps; a second Ctrl-C stops at once."""

    def __enter__(self) -> "StopSignals":
        self.received = None
        self.previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, signum, frame) -> None:
        if self.received == signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum

    def __exit__(self, *exc) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)


if __name__ == "__main__":
    sys.exit(cli.run(main))
