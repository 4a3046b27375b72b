"""A loaded model: one callable, uint8 pictures in, uint8 pictures out, whatever runs it."""

import json
import reprlib
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from system.cli import MAX_INT, InputError
from system.storage import AnyPath

METADATA = "cyclegan"  # the name under which a file holds its metadata, as JSON
FORMAT_VERSION = 1  # in the metadata of what is written now
_NUMBERS = {"format_version": FORMAT_VERSION, "image_size": MAX_INT, "ngf": MAX_INT, "multiple": 4096, "smallest": 4096}  # at most


class Foreign(Exception):
    """A model of a kind that is known, but none of export_graph.py."""


def parse(metadata: str | bytes | None) -> dict[str, Any]:
    """A model's metadata, JSON → the same as a dict. Raises `Foreign` if there is none, `InputError` if something in it cannot be."""
    if metadata is None:
        raise Foreign
    found = {"multiple": 4, "smallest": 8, **json.loads(metadata)}  # which older models do not say: their generators were all ResNets
    if type(version := found.get("format_version")) is int and version > FORMAT_VERSION:
        raise InputError(f"of format {version}, which a newer version of this program made; use that, or export it anew with this one")
    for name, value in {"image_size": None, **found}.items():
        most, text = _NUMBERS.get(name), name in ("source", "target")
        if most and not (type(value) is int and 0 < value <= most) or text and not isinstance(value, str):
            wanted = "a text" if text else f"a whole number from 1 to {most}"
            raise InputError(f"damaged: its metadata has {name} {reprlib.repr(value)}, which should be {wanted}; export it anew")
    return found


def alike(made: Any, given: np.ndarray) -> np.ndarray:
    """Returns what a model made of an array. Raises `InputError` unless it has the same shape and type."""
    if not isinstance(made, np.ndarray):
        raise InputError(f"makes a {type(made).__name__} of pictures; export it anew")
    if (made.dtype, made.shape) != (given.dtype, given.shape):
        raise InputError(f"makes {made.dtype} {made.shape} of {given.dtype} {given.shape}, which should be alike; export it anew")
    return made


@dataclass(frozen=True)
class Translator:
    """A loaded model. `metadata` is what travels in it: image_size, source and target domain, generator, format_version, step, …"""

    file: AnyPath
    metadata: dict[str, Any]
    device: str  # the name of the one that computes
    run: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    generate: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)  # the same before rounding, float32 in [-1, 1]
    measure: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    run_part: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    fixed_size: int | None = None  # the only side that the model can translate, if there is but one
    checksum: str = ""  # see `checksums.of`: by it pictures say what made them

    def __call__(self, pictures: np.ndarray, statistics: np.ndarray | None = None) -> np.ndarray:
        """uint8 (B, H, W, 3), any height and width → the same. `statistics`: they are parts of one that has these.

        Raises `MemoryError`, and `InputError` for a model that fails or makes anything else.
        """
        if statistics is None:
            return self._call(lambda some: alike(self.run(some), some), pictures)
        return self._call(lambda some: alike(self.run_part(some, statistics), some), pictures)

    def statistics(self, parts: np.ndarray) -> np.ndarray | None:
        """Parts of a picture, uint8 (B, H, W, 3) → what the model normalises all of it with; None if it cannot tell."""
        return self._call(self.measure, parts) if self.knows_statistics else None

    @property
    def image_size(self) -> int:
        """The side, in pixels, of the pictures that the model was trained on (or was exported for)."""
        return self.metadata["image_size"]

    @property
    def multiple(self) -> int:
        """What divides the sides of the pictures that the network itself takes, in pixels; others are padded for it."""
        return self.metadata["multiple"]

    @property
    def smallest(self) -> int:
        """What these sides are at least."""
        return self.metadata["smallest"]

    @property
    def knows_statistics(self) -> bool:
        """Tells whether `statistics` can be asked for."""
        return self.measure is not None

    @property
    def sees_whole_pictures(self) -> bool:
        """Tells whether what the model makes of a part depends on all of the picture: it does under instance normalisation."""
        return self.metadata.get("norm", "instance") == "instance"

    def _call(self, function: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray) -> np.ndarray:
        """Calls it. Where a runtime lacks memory, which each says in its own way, it is `MemoryError`: then smaller tiles may do."""
        try:
            return function(pictures)
        except MemoryError:
            raise
        except InputError as e:
            raise InputError(f"{self.file}: {e}") from None
        except Exception as e:  # a runtime can raise nearly anything
            if type(e).__name__ == "ResourceExhaustedError" or "alloc" in str(e).lower():  # the former is TensorFlow's
                raise MemoryError(str(e)) from None
            reason = textwrap.shorten(f"{type(e).__name__}: {e}", 300, placeholder=" …")
            raise InputError(f"{self.file}: fails on {self.device} ({reason}); export it anew") from None
