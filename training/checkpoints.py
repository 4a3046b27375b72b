"""A run's checkpoints: each appears whole or not at all, and an old one goes only when a newer one stands."""

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
    """The checkpoints of `model` in the folder `run`, whose lock the caller holds. One whose index stands is complete: it is renamed last.

    That of every `keep_every` steps is a milestone, which stays; that of the step `best` stays until another is.
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
        """Tells whether the checkpoint of this step is due whatever else is, and stays."""
        return self.keep_every is not None and step % self.keep_every == 0

    def save(self, step: int) -> None:
        """Writes a checkpoint; then the one that is now the sixth goes. Raises `OSError` or a TensorFlow error, the others being intact."""
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
        # Those that had fallen out before are milestones, maybe of another keep_every, and none of ours to remove.
        self._remove([s for s in before[-KEEP:] if s not in after[-KEEP:] and not self._stays(s)], after)

    def keep_as_best(self, step: int) -> None:
        """From now on this one stays, and not the one that was the best before."""
        before, self.best = self.best, step
        steps = self.steps()
        if before in steps[:-KEEP] and not self._stays(before):
            self._remove([before], steps)

    def _stays(self, step: int) -> bool:
        return self.is_milestone(step) or step == self.best

    def _remove(self, old: list[int], steps: list[int]) -> None:
        self._write_state([step for step in steps if step not in old])
        for step in old:
            for file in sorted(self._files(step), reverse=True):  # the index first: without its data it would promise too much
                file.unlink()

    def restore(self, mend: bool = True) -> tuple[int, list[int]]:
        """Restores the newest checkpoint that can be read. Returns its step, 0 if there is none yet, and the steps of damaged ones.

        Those are renamed to …damaged; with `mend=False` the folder stays as it is. Raises `InputError` if none can be read, or it does not
        fit the model.
        """
        steps = self.steps()
        if mend:
            self._remove_leftovers(steps)
        good = next((step for step in reversed(steps) if self._readable(step)), None)
        if good is None:
            if steps:
                raise InputError(f"{self.run}: its checkpoints are damaged, all of them ({', '.join(map(str, steps))})")
            return 0, []
        try:
            # Quiet on the way out, should the assertions fail.
            status = self.checkpoint.read(str(self.run / f"{NAME}-{good}")).expect_partial()
            status.assert_existing_objects_matched()
            status.assert_consumed()
        except (AssertionError, ValueError):
            raise InputError(f"{self.run / NAME}-{good}: made by other settings than config.json's, or by another version") from None
        damaged = [step for step in steps if step > good]
        if not mend:
            return good, damaged
        for file in (file for step in damaged for file in self._files(step)):
            storage.replace(file, file.with_name(f"{file.name}.damaged"))
        self._write_state([step for step in steps if step <= good])
        return good, damaged

    def _remove_leftovers(self, steps: list[int]) -> None:
        for folder in self.run.glob(".saving-*"):
            storage.remove(folder)
        for step, file in self._by_step("data-*").items():
            if step not in steps:
                file.unlink()

    def _readable(self, step: int) -> bool:
        """Reads a checkpoint to its end; all in it has checksums. Raises `OSError` if that fails for a reason outside of its files."""
        try:
            # Not tf.train.load_checkpoint, which looks for a folder first, and finds one in ram://, where all that names begin with is one.
            reader = tf.compat.v1.train.NewCheckpointReader(str(self.run / f"{NAME}-{step}"))
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
        except Exception:  # of many kinds, as TensorFlow words and maps them
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
        with storage.whole(self.run / "checkpoint") as file:
            file.write_text("\n".join(lines) + "\n")


def read_parts(checkpoint: str, **parts: tf.Module | tf.Variable) -> None:
    """Restores some parts of the model that a checkpoint holds, by name, and leaves the others. Raises `InputError` if they do not fit."""
    model = tf.Module()
    for name, part in parts.items():
        setattr(model, name, part)
    try:
        tf.train.Checkpoint(model=model).read(checkpoint).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError):
        raise InputError(f"{checkpoint}: damaged, or does not fit the settings in config.json beside it") from None


def initialise(model, checkpoint: str) -> None:
    """Gives a new model's networks the weights that those of another run, of the same architecture, have in a checkpoint.

    Moving averages go on from that run's; if it keeps none, they begin as the networks. Raises `InputError` if the weights do not fit.
    """
    names = ["G", "F", "D_X", "D_Y"]
    averages = model.config.ema and Config.load(storage.path(checkpoint).parent).ema
    read_parts(checkpoint, **{name: getattr(model, name) for name in names + (["G_ema", "F_ema"] if averages else [])})
    if model.config.ema and not averages:
        model.start_average()


def _sync(path: AnyPath) -> None:
    if not isinstance(path, Path):
        return  # it has been written when it was closed
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
