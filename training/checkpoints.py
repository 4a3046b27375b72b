"""A run's checkpoints: each appears completely or not at all, and an old one is removed only when a newer one is complete."""

import contextlib
import os
from pathlib import Path

import tensorflow as tf

from system import storage
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
        good = next((step for step in reversed(steps) if self._readable(step)), None)
        if good is None:
            if steps:
                raise InputError(f"{self.run}: its checkpoints are damaged, all of them ({', '.join(map(str, steps))})")
            return 0, []
        try:
            # Quiet on the way out, should the assertions fail.
            status = self.checkpoint.read(str(self.run / f"{NAME}-{good}")).expect_partial()
            status.assert_existing_objects_matched().assert_consumed()
        except (AssertionError, ValueError):
            raise InputError(f"{self.run / NAME}-{good}: made by other settings than config.json's, or by another version") from None
        damaged = [step for step in steps if step > good]
        if mend:
            for file in (file for step in damaged for file in self._files(step)):
                storage.replace(file, file.with_name(f"{file.name}.damaged"))
            self._write_state([step for step in steps if step <= good])
        return good, damaged

    def _readable(self, step: int) -> bool:
        """Reads all of a checkpoint, checksums included. Raises `OSError` if its files cannot be reached."""
        try:
            # Not tf.train.load_checkpoint, which looks for a folder first: in ram:// every beginning of a name is one.
            reader = tf.compat.v1.train.NewCheckpointReader(str(self.run / f"{NAME}-{step}"))
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
        except Exception:  # TensorFlow raises many kinds
            for file in self._files(step):
                storage.check_reachable(file)
            return False
        return True

    def _by_step(self, suffix: str) -> dict[int, AnyPath]:
        files = {file.stem.removeprefix(f"{NAME}-"): file for file in self.run.glob(f"{NAME}-*.{suffix}")}
        return {int(step): file for step, file in files.items() if step.isdigit()}

    def _files(self, step: int) -> list[AnyPath]:
        return [file for file in self.run.glob(f"{NAME}-{step}.*") if not file.name.endswith(".damaged")]

    def _write_state(self, steps: list[int]) -> None:
        """Writes the file by which `tf.train.latest_checkpoint` finds the newest."""
        lines = [f'model_checkpoint_path: "{NAME}-{steps[-1]}"', *(f'all_model_checkpoint_paths: "{NAME}-{s}"' for s in steps)]
        with storage.atomic_write(self.run / "checkpoint") as file:
            file.write_text("\n".join(lines) + "\n")


def read_parts(checkpoint: str, **parts: tf.Module | tf.Variable) -> None:
    """Restores some parts of the model in a checkpoint, by name. Raises `InputError` if they do not fit."""
    try:
        of_model = tf.train.Checkpoint(model=tf.train.Checkpoint(**parts))
        of_model.read(checkpoint).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError):
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
