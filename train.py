"""Trains a CycleGAN on two TFRecord files (or sets of shards), or continues a run that was stopped (--load_model)."""

import argparse
import contextlib
import itertools
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from pictures import shards
from system import cli, devices, storage
from system.cli import InputError, Stopped
from system.progress import Progress
from system.signals import StopSignals
from system.storage import AnyPath
from training import run_folder
from training.config import ARCHITECTURE, RECIPES, Config, add_arguments

LOG_SECONDS, IMAGE_SECONDS, SAVE_SECONDS = 30, 300, 300  # on a slow machine nobody should wait for step 100 to see anything


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--load_model", metavar="RUN", help="continue this run: a name in --checkpoints_dir or a path; its settings hold")
    parser.add_argument("--checkpoints_dir", metavar="DIR", type=storage.path, default="checkpoints", help="where run folders are made")
    parser.add_argument("--run_name", metavar="NAME", help="name of the run folder [the time, YYYYmmdd-HHMM]")
    parser.add_argument(
        "--recipe", choices=RECIPES, help="settings that belong together, which flags beside it override; chapter: the book chapter's own"
    )
    parser.add_argument(
        "--strategy",
        choices=("auto", "one", "mirrored", "multiworker"),
        default="auto",
        help="train on one device, on all GPUs of this machine, or with the other workers that TF_CONFIG names; auto: what there is",
    )
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    devices.share_threads()  # first: to find a run on remote storage takes TensorFlow
    settings = {k: v for k, v in vars(args).items() if k not in ("load_model", "checkpoints_dir", "run_name", "strategy", "recipe")}
    settings = RECIPES.get(args.recipe, {}) | settings
    if args.load_model is None:
        Config(**settings)  # before TensorFlow is loaded, which takes a while
        run = None
    elif args.run_name is not None:
        raise InputError(f"--run_name {args.run_name}: a run that continues keeps its folder; leave out --run_name or --load_model")
    else:
        run = run_folder.find_run(args.load_model, args.checkpoints_dir)

    devices.quiet_tensorflow(lambda: None)
    from system.devices import native_precision
    from system.workers import connect

    workers = connect(args.strategy)
    if run is None:
        settings.setdefault("precision", Config.precision)
    if settings.get("precision") == "auto":
        settings["precision"] = native_precision()  # which the run then keeps, on whatever device it is continued
    if run is None:
        if "init_from" in settings:
            with workers.all_or_none():
                settings = with_architecture(settings, run_folder.find_weights(settings["init_from"], args.checkpoints_dir))
        return start(workers, args.checkpoints_dir, args.run_name, Config(**settings))
    return resume(workers, run, settings)


def with_architecture(settings: dict, checkpoint: str) -> dict:
    """Settings of a new run → the same, with that checkpoint's architecture. Raises `InputError` for those that contradict it."""
    theirs = Config.load(storage.path(checkpoint).parent)
    networks = {name: getattr(theirs, name) for name in ARCHITECTURE}
    wrong = [f"--{k} {settings[k]} (it has {v})" for k, v in networks.items() if settings.get(k, v) != v]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: --init_from {settings['init_from']} has networks of another architecture; leave out")
    return settings | networks | {"init_from": checkpoint}


def number_type_words(precision: str, native: str) -> str:
    """Says what a run computes in, and why, or what of it; `native`: what the device computes in by itself."""
    if precision == "float16":
        return precision
    if precision == native:
        return f"{precision}, " + ("as this device has no bfloat16" if native == "float32" else "which this device has")
    if precision == "float32":
        return f"{precision}, though this device has {native}, too"
    return f"{precision}, which this device only imitates, many times slower; --init_from and --precision float32 make a new run of it"


def start(workers, checkpoints_dir: AnyPath, name: str | None, config: Config) -> int:
    """Begins a run. Its folder appears when everything else has been found in order."""
    with contextlib.ExitStack() as until_the_end:
        with workers.all_or_none():
            if name is not None and workers.is_chief:
                run_folder.check_run_name(name, checkpoints_dir)
            X, Y = open_data(workers, config)
            tests = open_tests(workers, config)
        model = build_model(workers, config, X, Y)
        run, data = None, fingerprints(workers, X, Y)
        with workers.all_or_none():
            if workers.is_chief:
                run = run_folder.new_run(checkpoints_dir, name, config, data)
                until_the_end.enter_context(run_folder.locked(run))
        return trainer(workers)(workers, model, X, Y, run, tests).go()


def resume(workers, run: AnyPath, settings: dict) -> int:
    """Continues a run with some settings changed. Raises `InputError` with all that contradicts it."""
    with contextlib.ExitStack() as until_the_end:
        with workers.all_or_none():
            if workers.is_chief:
                until_the_end.enter_context(run_folder.locked(run))
            before = Config.load(run)
            if before.init_from and run_folder.may_mean(settings.get("init_from", ""), before.init_from, run.parent):
                settings = settings | {"init_from": before.init_from}  # the same command twice
            config, wrong = before.changed(settings)
            X, Y = open_data(workers, config)
            wrong += run_folder.data_contradictions(run, X, Y)
            if wrong:
                raise InputError(f"{', '.join(wrong)}: cannot change when a run continues; leave out, or start a new run")
            tests = open_tests(workers, config)
        model = build_model(workers, config, X, Y, begun=run_folder.has_checkpoint(run))
        return trainer(workers)(workers, model, X, Y, run, tests).go(changed=before.differences(config))


def open_data(workers, config: Config) -> tuple:
    """Returns the readers of X and Y, checked. They read this worker's rows of each batch; with `shard_data`, this worker's shards."""
    from reader import Reader

    if (n := workers.strategy.num_replicas_in_sync) > 1:
        for flag, typed, remedy in (
            ("--xla", config.xla, "leave it out"),
            ("--precision float16", config.precision == "float16", "use bfloat16"),
        ):
            if typed:
                raise InputError(f"{flag}: is for one replica, and here are {n}; {remedy}, or add --strategy one")
    first, count = workers.rows(config.batch_size)
    if config.shard_data:
        batch_size, part = count, {"share": (workers.index, workers.count)}
    else:
        batch_size, part = config.batch_size, {"rows": (first, count)}
    sizes = config.image_size, config.load_size, batch_size
    return tuple(
        Reader(file, *sizes, name, config.seed, skip_bad_records=config.skip_bad_records, **part)
        for name, file in (("X", config.X), ("Y", config.Y))
    )


def open_tests(workers, config: Config):
    """Returns the test pictures that the chief measures on, if it is to. Raises `InputError` for what cannot be read."""
    if config.eval_every is None or not workers.is_chief:
        return None
    from quality import features
    from quality.held_out import TestPictures

    if config.features == "none":
        network = None
    else:
        network = features.load(storage.path(config.features)) if config.features else features.inception()
    return TestPictures(storage.path(config.X_test), storage.path(config.Y_test), config.image_size, network)


def fingerprints(workers, *readers) -> dict[str, dict]:
    """What the data is known by, for each domain. Of shards that are another worker's, that one's word is taken."""
    if not readers[0].share:
        return {reader.name: reader.fingerprint for reader in readers}
    own = {reader.name: [shard.fingerprint for shard in reader.shards] for reader in readers}
    of_all = [json.loads(text) for text in workers.exchange(json.dumps(own))]
    turns = {name: itertools.zip_longest(*(shares[name] for shares in of_all)) for name in own}
    return {name: shards.joined([part for turn in turns[name] for part in turn if part]) for name in own}


def build_model(workers, config: Config, X, Y, begun: bool = False):
    """Returns a new model, with the weights of `init_from` if there is that, and no checkpoint yet of a run that has `begun`."""
    import keras

    from model import CycleGAN, training_length
    from training.checkpoints import initialise

    workers.check_alike("settings", repr(config))
    if config.shard_data:
        for reader in (X, Y):
            reader.total = workers.add_up(len(reader))
    else:
        workers.check_alike("data", repr((X.fingerprint, Y.fingerprint)))
    keras.utils.set_random_seed(config.seed)
    with workers.strategy.scope():
        model = CycleGAN(config, *training_length(config, max(X.total, Y.total)))
    if config.init_from and not begun:
        with workers.all_or_none(), workers.strategy.scope():
            initialise(model, config.init_from)
    return model


def trainer(workers) -> type["Training"]:
    return Training if workers.is_chief else Follower


class Training:
    """A run under way: the loop, and what it leaves in the run's folder, whose lock the caller holds."""

    def __init__(self, workers, model, X, Y, run: AnyPath, tests=None):
        self.workers, self.model, self.X, self.Y, self.run, self.tests = workers, model, X, Y, run, tests
        self.config, self.total = model.config, model.learning_rate.total_steps
        self.losses: dict = {}
        self.told: set[str] = set()
        self.translators: list = []
        self.progress = Progress(self.total, "steps")
        self.go_on = f"python train.py --load_model{'=' if str(run).startswith('-') else ' '}{shlex.quote(str(run))}"
        for chief in (True, False):  # the chief first: it mends what a crash has left
            with workers.all_or_none():
                if chief == workers.is_chief:
                    self.restore()
        workers.check_alike("checkpoints", str(self.step))

    def restore(self) -> None:
        from training.checkpoints import Checkpoints

        best = run_folder.evaluation(self.run).get("best", {}).get("step")
        self.checkpoints = Checkpoints(self.run, self.model, self.config.keep_every, best)
        self.step, damaged = self.checkpoints.restore()
        self.saved = self.checkpoints.newest
        for step in damaged:
            print(f"{self.run}: the checkpoint of step {step} is damaged and set aside; that of step {self.step} is taken", file=sys.stderr)
        if self.step > self.total:
            raise InputError(f"{self.run}: is at step {self.step}, and should end at step {self.total}: raise --max_steps or --n_epochs")

    def go(self, changed: dict | None = None) -> int:
        """Trains until the end, a signal, or trouble. `changed`: the settings that a continued run changes. Returns the exit status."""
        with StopSignals() as self.stop, self.workers.to_the_end(self.lost), self.one_line_errors():
            if self.saved != self.total:
                self.open(changed)
                trouble = self.loop()
                if self.saved != self.step:
                    self.save()
                self.close(trouble)
        if self.stop.received:
            self.say(f"stopped and saved at step {self.step}; continue with: {self.go_on}", sys.stderr)
            return 128 + self.stop.received
        run = shlex.quote(str(self.run))
        self.say(f"{self.run}: trained to step {self.step}; export it with: python export_graph.py --checkpoint_dir {run}", sys.stdout)
        return cli.DONE

    def say(self, words: str, stream: IO[str]) -> None:
        print(words, file=stream, flush=True)

    def open(self, changed: dict | None) -> None:
        from system.devices import device_name, native_precision
        from training.summaries import Summaries

        where = device_name()
        if (n := self.workers.strategy.num_replicas_in_sync) > 1:
            where = f"{n} × {where}" + (f", {self.workers.count} workers" if self.workers.count > 1 else "")
        self.say(
            f"{self.run}: {self.X.total} + {self.Y.total} pictures, steps {self.step} to {self.total}, on {where}, "
            f"in {number_type_words(self.config.precision, native_precision())}",
            sys.stdout,
        )
        self.say(f"watch it: tensorboard --logdir {shlex.quote(str(self.run))}", sys.stdout)
        resumed = changed is not None
        if resumed:
            self.config.save(self.run)
        run_folder.record(self.run, "continued" if resumed else "started", self.step, **({"changed": changed} if changed else {}))
        self.summaries = Summaries(self.run, self.step)
        self.log_gate, self.picture_gate = Gate(self.config.log_every, LOG_SECONDS), Gate(self.config.image_every, IMAGE_SECONDS)
        self.save_gate = Gate(self.config.save_every, SAVE_SECONDS, last=time.monotonic())
        if self.config.init_from and self.saved is None:
            self.say(f"begins with the networks of {self.config.init_from}", sys.stdout)
            self.save()  # from here on it does not need that run

    def loop(self) -> str | None:
        """A step, then what is due. Returns what is wrong with the data, if that ends it."""
        from reader import BadRecord, feed_pairs
        from system.workers import TROUBLE

        batches = feed_pairs(self.X, self.Y, self.step)
        if self.step:
            self.evaluate()  # if a stop has kept that from being done
        while self.step < self.total:
            trouble = None
            try:
                x, y = next(batches)
            except (BadRecord, InputError) as e:  # the latter: not one record is left
                trouble = str(e)
            heard = self.workers.hear(TROUBLE if trouble else self.stop.received or 0)
            if any(heard):  # all stop at the same step
                worker, word = next((worker, word) for worker, word in enumerate(heard) if word)
                if word != TROUBLE:
                    self.stop.received = self.stop.received or word
                    return None
                return trouble or f"worker {worker} cannot go on; it says why"
            self.losses = self.model.train_step(self.workers.spread(x), self.workers.spread(y))
            self.step += 1
            self.keep(x, y)
        return None

    def keep(self, x, y) -> None:
        """Keeps of this step, whose rows here were `x` and `y`, what is due."""
        if self.log_gate.due(self.step):
            self.log()
        if self.picture_gate.due(self.step):
            rows = len(x) // self.workers.replicas_here
            self.summaries.pictures(self.model.sample(x[:rows], y[:rows]), self.step)
        if self.save_gate.due(self.step) or self.checkpoints.is_milestone(self.step):
            self.save()
        self.evaluate()
        self.progress.update(self.step, self.describe)

    def log(self) -> None:
        from training.health import findings

        self.check_finite(weights=False)
        skipped = len(self.X.bad) + len(self.Y.bad)
        self.summaries.scalars(self.losses | ({"data/skipped_records": skipped} if skipped else {}), self.step)
        self.progress.update(self.step, self.describe, force=not self.progress.live)
        health = {name.removeprefix("health/"): float(v) for name, v in self.losses.items() if name.startswith("health/")}
        for topic, words in findings(health, self.step).items():
            self.tell(topic, f"warning: {words}")
        self.tell_what_is_left_out()

    def tell_what_is_left_out(self) -> None:
        for reader in (self.X, self.Y):
            for record, what in reader.bad.items():
                self.tell(f"{reader.name} {record}", f"{reader.describe({record: what})}; left out")

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

    def evaluate(self) -> None:
        """Measures on the test pictures if that is due and not done yet, and keeps the checkpoint if it is the best so far.

        A signal ends it; the run then goes on with it.
        """
        if self.tests is None or self.step % self.config.eval_every and self.step != self.total:
            return
        done = run_folder.evaluation(self.run)
        if done.get("last", {}).get("step") == self.step:
            return
        self.translators = self.translators or self.model.translators()
        try:
            numbers, sheet = self.tests.measure(*self.translators, before_each=self.stop.check)
        except StopSignals.Received:
            return
        except InputError as e:  # no reason to stop training
            return self.tell("test pictures", f"{e}; not measured")
        self.summaries.scalars({f"test/{name}": value for name, value in numbers.items()}, self.step)
        self.summaries.sheet("test", sheet, self.step)
        words = [f"cycle error {100 * numbers['G_cycle_error']:.1f} and {100 * numbers['F_cycle_error']:.1f} %"]
        best, now = done.get("best"), {"step": self.step, **numbers}
        if self.tests.features:
            words = [
                f"{G} KID×1000 {1000 * numbers[f'{G}_kid']:.1f} ± {1000 * numbers[f'{G}_kid_standard_error']:.1f}" for G in "GF"
            ] + words
            if best is None or best["step"] not in self.checkpoints.steps() or quality(now) < quality(best):
                if self.saved != self.step:
                    self.save()
                self.checkpoints.keep_as_best(self.step)
                best = now
                words.append("the best so far")
        run_folder.note_evaluation(self.run, now, best)
        self.progress.say(f"step {self.step}, on test pictures: {', '.join(words)}")

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

    def lost(self) -> str:
        """What to say when another worker is gone."""
        return f"another worker is gone since step {self.step}. {self.what_stands()}"

    def describe(self) -> str:
        epochs = self.config.batch_size / max(self.X.total, self.Y.total)
        words = [f"epoch {self.step * epochs:.1f}/{self.total * epochs:.0f}"]
        words += [f"{name.removeprefix('loss/')} {float(v):.3f}" for name, v in self.losses.items() if name.startswith("loss/")]
        if self.progress.rate:
            words.append(f"{self.progress.rate * self.config.batch_size:.2f} pictures/s")
        return "  ".join(words)


def quality(numbers: dict[str, float]) -> float:
    """How good both translations are, on test pictures, as one number: the mean of their KIDs. The smaller, the better."""
    return (numbers["G_kid"] + numbers["F_kid"]) / 2


class Follower(Training):
    """A worker that is not the chief: it makes the same steps, and keeps nothing."""

    def restore(self) -> None:
        self.step, self.saved = 0, None
        if self.run is not None:
            from training.checkpoints import Checkpoints

            self.checkpoints = Checkpoints(self.run, self.model)
            self.step, _ = self.checkpoints.restore(mend=False)

    def open(self, changed: dict | None) -> None:
        pass

    def keep(self, x, y) -> None:
        self.tell_what_is_left_out()  # of the rows that it alone reads

    def tell(self, topic: str, words: str) -> None:
        if topic not in self.told:
            self.told.add(topic)
            print(f"step {self.step}: {words}", file=sys.stderr)

    def save(self) -> None:
        pass

    def evaluate(self) -> None:
        pass

    def close(self, trouble: str | None) -> None:
        if trouble:
            raise Stopped(trouble)

    def say(self, words: str, stream: IO[str]) -> None:
        pass

    def what_stands(self) -> str:
        return "Worker 0 has the checkpoints; start all workers again"


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


if __name__ == "__main__":
    sys.exit(cli.run(main))
