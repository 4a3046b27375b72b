"""ONNX files, for programs without TensorFlow: written layer by layer, run by ONNX Runtime on pictures of any size.

Converters are trusted as little as possible, as what they get wrong they get wrong silently: tf2onnx 1.17 leaves out the padding of a
transposed convolution that pads one side only (docs/formats.md).
"""

import contextlib
import ctypes
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats import network, translator
from formats.translator import Translator
from system import graphs
from system.cli import InputError
from system.storage import AnyPath

OPSET, IR_VERSION = 18, 8  # ONNX as of December 2022, which ONNX Runtime knows from version 1.14 on


def load(file: AnyPath, data: bytes, trust: bool = False) -> Translator:
    """Loads such a model, which pads and rounds by itself. Raises `Foreign` for another one, or whatever ONNX Runtime raises.

    Raises `InputError` unless `trust` if it is not made of ONNX's own operations, or reads other files.
    """
    try:
        import onnxruntime
        from onnx import load_model_from_string
    except ImportError as e:
        raise InputError(f"an ONNX model needs {e.name}, which is not installed: bash scripts/setup.sh onnx") from None
    if not trust:
        check(load_model_from_string(data))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal is raised as well
    options.enable_mem_pattern = False  # which from the second picture on takes more memory, and no less time
    available = onnxruntime.get_available_providers()  # some of which need more than is installed
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    model = str(file) if isinstance(file, Path) else data  # of which a session keeps a copy
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    with contextlib.suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)  # the memory that loading took, up to twice the model, would not be given back
    metadata = translator.parse(session.get_modelmeta().custom_metadata_map.get(translator.METADATA))
    if [x.name for x in (*session.get_inputs(), *session.get_outputs())] != ["input_image", "output_image", "generated"]:
        raise translator.Foreign

    def run(output: str, pictures: np.ndarray) -> np.ndarray:
        return session.run([output], {"input_image": np.ascontiguousarray(pictures, np.uint8)})[0]

    device = session.get_providers()[0].removesuffix("ExecutionProvider")
    return Translator(file, metadata, device, lambda x: run("output_image", x), lambda x: run("generated", x))


def check(model) -> None:
    """Raises `InputError` if an onnx.ModelProto has operations that are not ONNX's own, or keeps weights in other files."""
    from onnx import NodeProto, TensorProto

    foreign, elsewhere = set(), False
    for part in _messages(model):
        if isinstance(part, NodeProto) and part.domain not in ("", "ai.onnx"):
            foreign.add(f"{part.domain}.{part.op_type}")
        elsewhere |= isinstance(part, TensorProto) and part.data_location == TensorProto.EXTERNAL
    found = [f"operations that are not ONNX's own ({', '.join(sorted(foreign))})"] * bool(foreign) + ["weights in other files"] * elsewhere
    if found:
        raise graphs.unneeded(f"has {' and '.join(found)}")


def _messages(message) -> Iterator[Any]:
    """A protocol buffer, and all those in it, but for the numbers of tensors."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if isinstance(value, Iterable) else (value,):
                yield from _messages(part)


def write(generator, metadata: dict, file: AnyPath) -> None:
    """Writes a generator: uint8 (B, H, W, 3), any size → "output_image", the same, and "generated", the float32 that is rounded to it."""
    from onnx import TensorProto, checker, helper

    graph = Graph()
    x = pictures = Value(graph, "input_image")
    for axis in (1, 2):
        size = graph.node("Squeeze", graph.node("Shape", pictures, start=axis, end=axis + 1))
        x = graph.node("Gather", x, network.padding(size, generator.multiple, generator.smallest, graph), axis=axis)
    floats = graph.node("Cast", x, to=TensorProto.FLOAT) / 127.5 - 1.0
    x = network.replay(generator, graph.node("Transpose", floats, perm=[0, 3, 1, 2]), network.by_kind(graph))
    channels_last = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    size = graph.node("Shape", pictures, start=1, end=3)
    generated = graph.node("Slice", channels_last, np.int64([0, 0]), size, np.int64([1, 2]), name="generated")
    clipped = graph.node("Clip", graph.node("Round", (generated + 1.0) * 127.5), np.float32(0), np.float32(255))
    graph.node("Cast", clipped, to=TensorProto.UINT8, name="output_image")

    declared = functools.partial(helper.make_tensor_value_info, shape=["batch", "height", "width", 3])
    inputs = [declared("input_image", TensorProto.UINT8)]
    outputs = [declared("output_image", TensorProto.UINT8), declared("generated", TensorProto.FLOAT)]
    made = helper.make_graph(graph.nodes, "generator", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cyclegan")
    helper.set_model_props(model, {translator.METADATA: json.dumps(metadata)})
    checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString())


def _node(kind: str) -> Callable[..., "Value"]:
    """A method that adds a node of this kind."""
    return lambda self, *others: self.graph.node(kind, self, *others)


@dataclass(frozen=True)
class Value:
    """A tensor of a graph that is being made. Arithmetic on it adds nodes."""

    graph: "Graph"
    name: str

    __add__, __sub__, __mul__, __lt__ = map(_node, ("Add", "Sub", "Mul", "Less"))
    __truediv__ = __floordiv__ = _node("Div")  # which cuts off what is behind the point of integers; none is negative here


class Graph:
    """The nodes of a graph that is being made, and methods that add to them: for each kind of layer, and as `network.padding` needs.

    Pictures are as ONNX has them, (B, channels, H, W). Inputs are `Value`s, or constants: arrays, or numbers, which are int64 or float32.
    """

    def __init__(self):
        self.nodes, self.constants = [], []

    def node(self, kind: str, *inputs: Any, name: str | None = None, **attributes) -> Value:
        """Adds a node, and returns its output. An input that is None is left out."""
        from onnx import helper

        names = ["" if x is None else x.name if isinstance(x, Value) else self._constant(x) for x in inputs]
        self.nodes.append(helper.make_node(kind, names, [name or f"{kind}_{len(self.nodes)}"], **attributes))
        return Value(self, self.nodes[-1].output[0])

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(value, {int: np.int64, float: np.float32}.get(type(value)))
        self.constants.append(numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def arange(self, size):
        return self.node("Range", 0, size, 1)

    abs, minimum, maximum, where = (lambda self, *x, kind=kind: self.node(kind, *x) for kind in ("Abs", "Min", "Max", "Where"))

    def Convolution(self, layer, x):
        pad = layer.pad
        if layer.reflect:
            x, pad = self.node("Pad", x, np.int64([0, 0, pad, pad] * 2), mode="reflect"), 0
        return self.node("Conv", x, channels_first(layer.kernel), *bias(layer), strides=layer.strides, pads=[pad] * 4)

    def Upconvolution(self, layer, x):
        more = 4 - layer.kernel_size[0]
        return self.node(
            "ConvTranspose", x, channels_first(layer.kernel), *bias(layer), strides=[2, 2], pads=[1] * 4, output_padding=[more] * 2
        )

    def ResizeConvolution(self, layer, x):
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        x = self.node("Resize", x, None, np.float32([1, 1, 2, 2]), **nearest)
        x = self.node("Pad", x, np.int64([0, 0, 1, 1] * 2), mode="reflect")
        return self.node("Conv", x, channels_first(layer.kernel), *bias(layer))

    def InstanceNormalization(self, layer, x):
        return self.node("InstanceNormalization", x, layer.gamma.numpy(), layer.beta.numpy(), epsilon=layer.EPSILON)

    def BatchNormalization(self, layer, x):
        weights = [w.numpy() for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
        return self.node("BatchNormalization", x, *weights, epsilon=layer.epsilon)

    def ReLU(self, layer, x):
        return self.node("Relu", x)

    def LeakyReLU(self, layer, x):
        return self.node("LeakyRelu", x, alpha=layer.negative_slope)

    def Dropout(self, layer, x):
        return x

    def Add(self, layer, x, y):
        return self.node("Add", x, y)

    def Concatenate(self, layer, x, y):
        return self.node("Concat", x, y, axis=1)

    def Activation(self, layer, x):
        return self.node({"tanh": "Tanh"}[layer.activation.__name__], x)


def bias(layer) -> list[np.ndarray]:
    """What a convolution adds to each channel, if it does."""
    return [layer.bias.numpy()] if layer.use_bias else []


def channels_first(kernel) -> np.ndarray:
    """(height, width, in, out) → (out, in, height, width); of a transposed convolution in and out have changed places."""
    return kernel.numpy().transpose(3, 2, 0, 1)
