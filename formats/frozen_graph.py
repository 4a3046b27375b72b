"""The frozen graphs of the TensorFlow 1 project that the chapter is built on: a GraphDef with input_image and output_image."""

import numpy as np
import tensorflow as tf

from formats import model_files
from formats.translator import Translator
from pictures import images
from system.cli import InputError
from system.storage import AnyPath
from utils import convert2float


class FrozenGraph(Translator):
    """A model that takes pictures of one size only, one at a time: float (N, N, 3) in [-1, 1] → a JPEG file."""

    knows_statistics = False

    def __call__(self, pictures: np.ndarray, statistics: None = None) -> np.ndarray:
        """uint8 (B, N, N, 3) → uint8 (B, N, N, 3)."""
        with model_files.memory_error():
            return np.stack([self._translate(picture) for picture in pictures])

    def _translate(self, picture: np.ndarray) -> np.ndarray:
        shape = self.model.inputs[0].shape
        (encoded,) = tf.nest.flatten(self.model(tf.reshape(convert2float(picture), shape if shape.rank == 4 else picture.shape)))
        return images.decode(encoded.numpy())


def load(file: AnyPath, data: bytes) -> FrozenGraph:
    """Loads such a graph. Raises `InputError` for another one, which `data` may also be by chance: of no model at all."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(data)
    except Exception:  # the parser's own kind of error
        raise InputError(f"{file}: no model; make one with export_graph.py") from None
    nodes = {node.name: node for node in graph.node}
    if not nodes:
        raise InputError(f"{file}: no model; make one with export_graph.py")
    if not {"input_image", "output_image"} <= nodes.keys():
        raise InputError(f"{file}: a frozen graph, but not one of the TensorFlow 1 project: it has no input_image and output_image")
    try:
        model = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), []).prune(
            "input_image:0", "output_image:0"
        )
    except Exception as e:  # a damaged graph can raise nearly anything
        raise InputError(f"{file}: damaged model ({type(e).__name__}); fetch it again") from None
    (picture,), (output,) = model.inputs, model.outputs
    shape = picture.shape.as_list()[-3:] if picture.shape.rank in (3, 4) else [None]
    side = shape[0]
    if (picture.dtype, output.dtype) != (tf.float32, tf.string) or side is None or shape != [side, side, 3]:
        raise InputError(f"{file}: a frozen graph whose input_image is {picture.dtype.name} {picture.shape}, not float32 (N, N, 3)")
    source, _, target = file.stem.partition("2")
    metadata = {
        "image_size": side,
        "generator": "resnet",
        "format_version": 0,
        "source": source or "input",
        "target": target or "output",
    }
    return FrozenGraph(file, metadata, model, side)
