"""A loaded model: one callable, uint8 pictures in, uint8 pictures out, whatever runs it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from system.storage import AnyPath

METADATA = "cyclegan"  # the name under which a file holds its metadata, as JSON


class Foreign(Exception):
    """A model of a kind that is known, but none of export_graph.py."""


def parse(metadata: str | bytes | None) -> dict[str, Any]:
    """A model's metadata, JSON → the same as a dict. Raises `Foreign` if there is none."""
    if metadata is None:
        raise Foreign
    return {"multiple": 4, "smallest": 8, **json.loads(metadata)}  # which older models do not say: their generators were all ResNets


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

    def __call__(self, pictures: np.ndarray, statistics: np.ndarray | None = None) -> np.ndarray:
        """uint8 (B, H, W, 3), any height and width → the same. `statistics`: they are parts of one that has these. Raises `MemoryError`."""
        return _call(self.run, pictures) if statistics is None else _call(self.run_part, pictures, statistics)

    def statistics(self, parts: np.ndarray) -> np.ndarray | None:
        """Parts of a picture, uint8 (B, H, W, 3) → what the model normalises all of it with; None if it cannot tell."""
        return _call(self.measure, parts) if self.knows_statistics else None

    @property
    def image_size(self) -> int:
        """The side, in pixels, of the pictures that the model was trained on (or was exported for)."""
        return self.metadata["image_size"]

    @property
    def multiple(self) -> int:
        """What divides the sides of the pictures that the network itself takes, in pixels; others are padded for it."""
        return self.metadata["multiple"]

    @property
    def knows_statistics(self) -> bool:
        """Tells whether `statistics` can be asked for."""
        return self.measure is not None

    @property
    def sees_whole_pictures(self) -> bool:
        """Tells whether what the model makes of a part depends on all of the picture: it does under instance normalisation."""
        return self.metadata.get("norm", "instance") == "instance"


def _call(function: Callable[..., np.ndarray], *inputs: np.ndarray) -> np.ndarray:
    """Calls it. Where a runtime lacks memory, which each says in its own way, it is `MemoryError`: then smaller tiles may do."""
    try:
        return function(*inputs)
    except Exception as e:
        if type(e).__name__ == "ResourceExhaustedError" or "alloc" in str(e).lower():  # the former is TensorFlow's
            raise MemoryError(str(e)) from None
        raise
