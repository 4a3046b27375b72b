"""A model file → one callable, uint8 pictures in, uint8 pictures out. Imports no training code: if it runs, the SavedModel stands alone."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from cli import InputError
from storage import AnyPath, path


@dataclass(frozen=True)
class Translator:
    """A loaded model. `metadata` is what travels in it: image_size, source and target domain, generator, format_version, step, …"""

    file: AnyPath
    metadata: dict[str, Any]
    model: Any  # a signature alone would not keep it alive

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3), any height and width."""
        return self.model.signatures["serving_default"](input_image=tf.constant(pictures, tf.uint8))["output_image"].numpy()

    @property
    def image_size(self) -> int:
        """The side, in pixels, of the pictures that the model was trained on (or was exported for)."""
        return self.metadata["image_size"]


def load(file: str | AnyPath) -> Translator:
    """Loads a SavedModel written by export_graph.py. Raises `InputError` for anything else."""
    file = path(file)
    if not file.exists():
        raise InputError(f"{file}: no such model; make it with export_graph.py")
    if not (file / "saved_model.pb").is_file():
        kind = "a folder without saved_model.pb" if file.is_dir() else "a file; a SavedModel is a folder"
        raise InputError(f"{file}: no model ({kind}); make one with export_graph.py")
    try:
        model = tf.saved_model.load(str(file))
    except Exception as e:  # a damaged model can raise nearly anything
        raise InputError(f"{file}: damaged model ({type(e).__name__}); export it anew") from None
    signatures = model.signatures
    if not {"serving_default", "metadata"} <= set(signatures):
        found = ", ".join(signatures) or "none"
        raise InputError(f"{file}: a SavedModel, but not one of export_graph.py (its signatures: {found})")
    metadata = json.loads(signatures["metadata"]()["metadata"].numpy())
    return Translator(file, metadata, model)
