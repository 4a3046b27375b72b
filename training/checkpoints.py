"""A run's checkpoints: each appears completely or not at all, and an old one is removed only when a newer one is complete."""

import contextlib
import os
import sys
from pathlib import Path

import tensorflow as tf

from system import patterns, storage
from system.cli import InputError
from system.storage import AnyPath
from training.config import Config

KEEP = 5  # the newest; milestones beside them
NAME = "model.ckpt"  # a checkpoint is model.ckpt-STEP.index and model.ckpt-STEP.data-…


class Checkpoints:
    """The checkpoints of `model` in the folder `run`, whose lock the caller holds. One that has an index is complete: that file comes last.

    The newest five are kept; beside them the milestones, every `keep_every` steps, and that of the step `best`.
    """

    def __init__(self, run: AnyPath, model: tf.Module, keep_every: int | None = None, best: int | None = None):
        self.run, self.keep_every, self.best = run, keep_every, best
        self.checkpoint = tf.train.Checkpoint(model=model)

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in order."""
        return sorted(self._by_step("index"))

    @property
    def newest(self) -> int | None:
        """The step of the newest complete checkpoint, if there is one."""
        return max(self.steps(), default=None)

    def is_milestone(self, step: int) -> bool:
        """Tells whether this step has a checkpoint that is kept for good."""
        return self.keep_every is not None and step % self.keep_every == 0

    def save(self, step: int) -> None:
        """Writes a checkpoint and removes the sixth newest. Raises `OSError` or a TensorFlow error, and leaves the others intact."""
        before = self.steps()
        folder = self.run / f".saving-{step}"
        folder.mkdir()
        try:
            self.checkpoint.write(str(folder / f"{NAME}-{step}"))
            files = sorted(folder.iterdir(), key=lambda file: file.suffix == ".index")
            for file in files:
                _sync(file)  # after a power cut there must be no name without its content
            for file in files:
                storage.replace(file, self.run / file.name)
            _sync(self.run)
        finally:
            with contextlib.suppress(OSError):
                storage.remove(folder)

        after = sorted({*before, step})
        # Those that were no longer among the newest before are milestones, maybe of another keep_every, and stay.
        self._remove([s for s in before[-KEEP:] if s not in after[-KEEP:] and not self._is_kept(s)], after)

    def keep_as_best(self, step: int) -> None:
        """From now on this one is kept, and the one that was the best before no longer is."""
        before, self.best = self.best, step
        steps = self.steps()
        if before in steps[:-KEEP] and not self._is_kept(before):
            self._remove([before], steps)

    def _is_kept(self, step: int) -> bool:
        return self.is_milestone(step) or step == self.best

    def _remove(self, old: list[int], steps: list[int]) -> None:
        self._write_state([step for step in steps if step not in old])
        for step in old:
            for file in sorted(self._files(step), reverse=True):  # the index first: without it the rest is no checkpoint
                file.unlink()

    def restore(self, mend: bool = True) -> tuple[int, list[int]]:
        """Restores the newest checkpoint that can be read. Returns its step, 0 if there is none yet, and the steps of damaged ones.

        Those are renamed to …damaged; with `mend=False` the folder stays as it is. Raises `InputError` if none can be read, or it does not
        fit the model.
        """
        steps = self.steps()
        if mend:  # what a crash has left
            for folder in self.run.glob(".saving-*"):
                storage.remove(folder)
            for step, file in self._by_step("data-*").items():
                if step not in steps:
                    file.unlink()
        good = next((step for step in reversed(steps) if _readable(self.run / f"{NAME}-{step}")), None)
        if good is None:
            if steps:
                raise InputError(f"{self.run}: its checkpoints are damaged, all of them ({', '.join(map(str, steps))})")
            return 0, []
        try:
            with patterns.plain(self.run) as folder:
                # Quiet on the way out, should the assertions fail.
                status = self.checkpoint.read(str(folder / f"{NAME}-{good}")).expect_partial()
                status.assert_existing_objects_matched().assert_consumed()
        except (AssertionError, ValueError):
            raise InputError(f"{self.run / NAME}-{good}: made by other settings than config.json's, or by another version") from None
        damaged = [step for step in steps if step > good]
        if mend:
            for file in (file for step in damaged for file in self._files(step)):
                storage.replace(file, file.with_name(f"{file.name}.damaged"))
            self._write_state([step for step in steps if step <= good])
        return good, damaged

    def _by_step(self, suffix: str) -> dict[int, AnyPath]:
        files = {file.stem.removeprefix(f"{NAME}-"): file for file in self.run.glob(f"{NAME}-*.{suffix}")}
        return {int(step): file for step, file in files.items() if step.isdigit()}

    def _files(self, step: int) -> list[AnyPath]:
        return [file for file in self.run.glob(f"{NAME}-{step}.*") if not file.name.endswith(".damaged")]

    def _write_state(self, steps: list[int]) -> None:
        """Writes the file by which `tf.train.latest_checkpoint` finds the newest."""
        lines = [f'model_checkpoint_path: "{NAME}-{steps[-1]}"', *(f'all_model_checkpoint_paths: "{NAME}-{s}"' for s in steps)]
        with storage.atomic_write(self.run / "checkpoint") as file:
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def find(flag: str, path: AnyPath) -> str:
    """Returns the newest checkpoint of a run folder that can be read, or the one that `path` is. Says on stderr which are passed over.

    Nothing is changed there: another process may be training. Raises `InputError` if no checkpoint can be read.
    """
    if not path.is_dir():
        checkpoint = storage.path(str(path).removesuffix(".index"))
        if not _readable(checkpoint):
            raise InputError(f"{flag} {checkpoint}: damaged, or not all there; name another checkpoint, or the run alone")
        return str(checkpoint)
    files = Checkpoints(path, tf.Module())
    steps = sorted({*files._by_step("index"), *files._by_step("data-*")}, reverse=True)
    good = next((step for step in steps if _readable(path / f"{NAME}-{step}")), None)
    if good is None:
        problem = f"its checkpoints are damaged, all of them ({', '.join(map(str, steps))})" if steps else "no checkpoint in this run yet"
        raise InputError(f"{flag} {path}: {problem}; name another run{'' if steps else ', or train this one until it has saved'}")
    if worse := steps[: steps.index(good)]:
        others = f"checkpoints of steps {', '.join(map(str, worse))} are" if len(worse) > 1 else f"checkpoint of step {worse[0]} is"
        print(f"{path}: the {others} damaged or not all there; that of step {good} is taken", file=sys.stderr)
    return str(path / f"{NAME}-{good}")


def _readable(checkpoint: AnyPath) -> bool:
    """Reads all of a checkpoint, checksums included. Raises `OSError` if its files cannot be reached."""
    found = [f for f in checkpoint.parent.iterdir() if f.name.startswith(f"{checkpoint.name}.") and not f.name.endswith(".damaged")]
    files = [file for file in found if not file.is_dir()]
    for file in files:
        storage.check_regular(file)
    try:
        with patterns.plain(checkpoint.parent) as folder:
            # Not tf.train.load_checkpoint, which looks for a folder first: in ram:// every beginning of a name is one.
            reader = tf.compat.v1.train.NewCheckpointReader(str(folder / checkpoint.name))
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
    except (InputError, MemoryError):
        raise
    except Exception:  # TensorFlow raises many kinds
        for file in files:
            storage.check_reachable(file)
        return False
    return True


def read_parts(checkpoint: str, **parts: tf.Module | tf.Variable) -> None:
    """Restores some parts of the model in a checkpoint, by name. Raises `InputError` if they do not fit."""
    try:
        of_model = tf.train.Checkpoint(model=tf.train.Checkpoint(**parts))
        with patterns.plain(storage.path(checkpoint).parent) as folder:
            of_model.read(str(folder / storage.path(checkpoint).name)).assert_existing_objects_matched().expect_partial()
    except InputError:
        raise
    except (AssertionError, ValueError, IndexError, tf.errors.OpError):  # the third: its data are cut off
        raise InputError(f"{checkpoint}: damaged, or does not fit the settings in config.json beside it") from None


def initialise(model, checkpoint: str) -> None:
    """Gives a new model the networks of another run's checkpoint, of the same architecture.

    Moving averages begin as that run's, or as the networks if it keeps none. Raises `InputError` if the weights do not fit.
    """
    has_averages = Config.load(storage.path(checkpoint).parent).ema
    averages = {name: average for name, (average, _) in model.averages.items()} if has_averages else {}
    read_parts(checkpoint, **model.networks, **averages)
    if not has_averages:
        model.start_averages()


def _sync(path: AnyPath) -> None:
    if isinstance(path, Path):  # remote storage writes a file when it is closed
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
