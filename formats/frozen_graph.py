"""The frozen graphs of the TensorFlow 1 project that the chapter is built on: a GraphDef with input_image and output_image."""

import numpy as np
import tensorflow as tf

from formats.translator import Translator, alike
from pictures import images
from system import devices, graphs
from system.cli import InputError
from system.storage import AnyPath
from utils import convert2float


def load(file: AnyPath, data: bytes, trust: bool = False) -> Translator:
    """Loads such a graph: pictures of one size only, one at a time, float (N, N, 3) in [-1, 1] → a JPEG file.

    Raises `InputError` for anything else, as `data` may be no model at all, and unless `trust` for one that does more than pictures need.
    """
    try:
        graph = tf.compat.v1.GraphDef.FromString(data)
    except Exception:  # the parser's own kind of error
        graph = tf.compat.v1.GraphDef()
    names = {node.name for node in graph.node}
    if not names:
        raise InputError("no model; make one with export_graph.py")
    if not {"input_image", "output_image"} <= names:
        raise InputError("a frozen graph, but not one of the TensorFlow 1 project: it has no input_image and output_image")
    if not trust:
        graphs.check_graph(graph)
    try:
        model = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
        model = model.prune("input_image:0", "output_image:0")
    except Exception as e:  # a damaged graph can raise nearly anything
        raise InputError(f"damaged model ({type(e).__name__}); fetch it again") from None
    (picture,), (output,) = model.inputs, model.outputs
    shape = picture.shape.as_list()[-3:] if picture.shape.rank in (3, 4) else [None]
    side = shape[0]
    if (picture.dtype, output.dtype) != (tf.float32, tf.string) or side in (None, 0) or shape != [side, side, 3]:
        raise InputError(f"a frozen graph whose input_image is {picture.dtype.name} {picture.shape}, not float32 (N, N, 3)")

    def translate(one: np.ndarray) -> np.ndarray:
        (encoded,) = tf.nest.flatten(model(tf.reshape(convert2float(one), picture.shape)))
        return alike(images.decode(encoded.numpy()), one)

    def run(pictures: np.ndarray) -> np.ndarray:
        height, width = pictures.shape[1:3]
        padded = np.pad(pictures, [(0, 0), (0, side - height), (0, side - width), (0, 0)], "symmetric")  # for pictures that are smaller
        return np.stack([*map(translate, padded)])[:, :height, :width]

    source, _, target = file.stem.partition("2")
    metadata = {"image_size": side, "multiple": 1, "smallest": side, "generator": "resnet", "format_version": 0}
    metadata |= {"source": source or "input", "target": target or "output"}
    return Translator(file, metadata, devices.device_name(), run, fixed_size=side)
