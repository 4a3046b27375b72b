"""A model file → one callable, uint8 pictures in, uint8 pictures out.

Imports no training code: if it runs, the SavedModel stands alone. Imports TensorFlow only for a model that needs it, as that takes seconds.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formats import model_files
from system import devices
from system.cli import InputError
from system.storage import AnyPath, path


@dataclass(frozen=True)
class Translator:
    """A loaded model. `metadata` is what travels in it: image_size, source and target domain, generator, format_version, step, …"""

    file: AnyPath
    metadata: dict[str, Any]
    model: Any = field(repr=False)  # a signature alone would not keep it alive
    fixed_size: int | None = None  # the only side that the model can translate, if there is but one

    def __call__(self, pictures: np.ndarray, statistics: np.ndarray | None = None) -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3), any height and width. `statistics`: the pictures are parts of one that has these.

        Raises `MemoryError`, whatever runs the model.
        """
        if statistics is None:
            return self._ask("serving_default", "output_image", input_image=pictures)
        return self._ask("translate_part", "output_image", input_image=pictures, statistics=statistics)

    def statistics(self, parts: np.ndarray) -> np.ndarray | None:
        """Parts of a picture, uint8 (B, H, W, 3) → what the model normalises all of it with; None if it cannot tell."""
        if not self.knows_statistics:
            return None
        return self._ask("statistics", "statistics", input_image=parts)

    def _ask(self, signature: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        with model_files.memory_error():
            return self.model.signatures[signature](**inputs)[output].numpy()

    @property
    def device(self) -> str:
        """Names the device that computes."""
        return devices.device_name()

    @property
    def image_size(self) -> int:
        """The side, in pixels, of the pictures that the model was trained on (or was exported for)."""
        return self.metadata["image_size"]

    @property
    def knows_statistics(self) -> bool:
        """Tells whether `statistics` can be asked for."""
        return "statistics" in self.model.signatures

    @property
    def sees_whole_pictures(self) -> bool:
        """Tells whether what the model makes of a part depends on all of the picture: it does under instance normalisation."""
        return self.metadata.get("norm", "instance") == "instance"


class RuntimeTranslator(Translator):
    """One whose `model` another runtime runs. It gives no statistics: of a picture in tiles each is normalised by itself."""

    knows_statistics = False

    def __call__(self, pictures: np.ndarray, statistics: None = None) -> np.ndarray:
        return self.model(pictures)

    @property
    def device(self) -> str:
        return self.model.device


def load(file: str | AnyPath) -> Translator:
    """Loads a model of export_graph.py, in whatever format, or a frozen graph of the TensorFlow 1 project.

    Raises `InputError` for anything else.
    """
    file = path(file)
    if not file.exists():
        raise InputError(f"{file}: no such model; make it with export_graph.py")
    if not file.is_dir():
        if file.name == "saved_model.pb":
            raise InputError(f"{file}: is part of a SavedModel; name its folder, {file.parent}")
        data = file.read_bytes()
        if model_files.kind_of(data) != "onnx":
            devices.quiet_tensorflow()
        if model := model_files.load(file, data):
            return RuntimeTranslator(file, model.metadata, model)
        from formats import frozen_graph

        return frozen_graph.load(file, data)
    if not (file / "saved_model.pb").is_file():
        raise InputError(f"{file}: no model (a folder without saved_model.pb); make one with export_graph.py")
    devices.quiet_tensorflow()
    import tensorflow as tf

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
