"""Generators in the formats of other runtimes, ONNX and TensorFlow Lite: written layer by layer, and compared with what they were made of.

Converters are trusted as little as possible, as what they get wrong they get wrong silently: tf2onnx 1.17 makes a model of the
SavedModel's graph that is off by 150 of 255, and TensorFlow Lite has lost weights that a model merely held.
"""

import json
from collections.abc import Callable
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from formats import model_files
from ops import Convolution, InstanceNormalization, ResizeConvolution, Upconvolution
from pictures import images, shards
from reader import Reader
from system import cli
from system.cli import InputError
from system.storage import AnyPath
from training.config import Config
from utils import convert2float, convert2int

Value = TypeVar("Value")

COUNT, SIDE = 4, 256  # pictures that a model is checked with, and their side at most
# How much of the range, 2, a model may differ from the checkpoint: at most, and on average.
LIMITS = {None: (1e-3, 1e-3), "float16": (0.02, 0.02), "int8": (2.0, 0.05)}
OPSET, IR_VERSION = 18, 8  # ONNX as of December 2022, which ONNX Runtime knows from version 1.14 on


def replay(generator: keras.Model, picture: Value, emit: Callable[..., Value]) -> Value:
    """Goes through a generator's layers: `emit(layer, *inputs)` is called for the output of each. Returns that of the last."""
    first, *layers = generator.layers
    values = {id(first.output): picture}
    for layer in layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        values[id(layer.output)] = emit(layer, *(values[id(x)] for x in inputs))
    return values[id(layers[-1].output)]


def array(weight: keras.Variable) -> np.ndarray:
    """A weight's value, while something is traced as well: files hold constants, which no converter can lose sight of."""
    with tf.init_scope():
        return weight.numpy()


def unknown(layer: keras.layers.Layer) -> TypeError:
    return TypeError(f"{layer.name}: a {type(layer).__name__} is not known here; say what it is in formats.py")


def onnx_model(generator: keras.Model, metadata: dict) -> bytes:
    """A generator as ONNX: uint8 (B, H, W, 3), any size → "output_image", the same, and "generated", the float32 that is rounded to it."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], []

    def constant(value) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), f"constant_{len(constants)}"))
        return constants[-1].name

    def node(kind: str, *inputs: str, name: str | None = None, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [name or f"{kind}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    zero, one, two, three, four, eight = (constant(np.int64(n)) for n in (0, 1, 2, 3, 4, 8))

    def pad(x: str, axis: int) -> str:
        """As `export_graph.pad`."""
        size = node("Squeeze", node("Shape", x, start=axis, end=axis + 1))
        padded = node("Max", node("Mul", node("Div", node("Add", size, three), four), four), eight)
        index, last = node("Range", zero, padded, one), node("Sub", size, one)
        little = node("Less", node("Sub", padded, size), size)
        beyond = node("Where", little, node("Sub", node("Mul", two, last), index), last)
        return node("Gather", x, node("Where", node("Less", index, size), index, beyond), axis=axis)

    def emit(layer: keras.layers.Layer, x: str, *others: str) -> str:
        """(B, channels, H, W), as ONNX has it."""
        match layer:
            case Convolution():
                pad, bias = layer.pad, [constant(array(layer.bias))] if layer.use_bias else []
                if layer.reflect:
                    x, pad = node("Pad", x, constant(np.int64([0, 0, pad, pad] * 2)), mode="reflect"), 0
                kernel = constant(array(layer.kernel).transpose(3, 2, 0, 1))
                return node("Conv", x, kernel, *bias, strides=layer.strides, pads=[pad] * 4)
            case Upconvolution():
                kernel = constant(array(layer.kernel).transpose(3, 2, 0, 1))
                return node("ConvTranspose", x, kernel, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])
            case InstanceNormalization():
                weights = [constant(array(w)) for w in (layer.gamma, layer.beta)]
                return node("InstanceNormalization", x, *weights, epsilon=layer.EPSILON)
            case keras.layers.BatchNormalization():
                weights = [constant(array(w)) for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
                return node("BatchNormalization", x, *weights, epsilon=layer.epsilon)
            case ResizeConvolution():
                nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                x = node("Resize", x, "", constant(np.float32([1, 1, 2, 2])), **nearest)
                x = node("Pad", x, constant(np.int64([0, 0, 1, 1] * 2)), mode="reflect")
                return node("Conv", x, constant(array(layer.kernel).transpose(3, 2, 0, 1)))
            case keras.layers.ReLU():
                return node("Relu", x)
            case keras.layers.Add():
                return node("Add", x, *others)
            case keras.layers.Activation() if layer.activation is keras.activations.tanh:
                return node("Tanh", x)
        raise unknown(layer)

    half, unit = constant(np.float32(127.5)), constant(np.float32(1))
    floats = node("Cast", pad(pad("input_image", 1), 2), to=TensorProto.FLOAT)
    channels_first = node("Transpose", node("Sub", node("Div", floats, half), unit), perm=[0, 3, 1, 2])
    channels_last = node("Transpose", replay(generator, channels_first, emit), perm=[0, 2, 3, 1])
    size = node("Shape", "input_image", start=1, end=3)
    generated = node("Slice", channels_last, constant(np.int64([0, 0])), size, constant(np.int64([1, 2])), name="generated")
    rounded = node("Round", node("Mul", node("Add", generated, unit), half))
    clipped = node("Clip", rounded, constant(np.float32(0)), constant(np.float32(255)))
    node("Cast", clipped, to=TensorProto.UINT8, name="output_image")

    def pictures(name: str, type: int):
        return helper.make_tensor_value_info(name, type, ["batch", "height", "width", 3])

    outputs = [pictures("output_image", TensorProto.UINT8), pictures("generated", TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "generator", [pictures("input_image", TensorProto.UINT8)], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cyclegan")
    helper.set_model_props(model, {model_files.METADATA: json.dumps(metadata)})
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def tflite_model(generator: keras.Model, metadata: dict, quantize: str | None = None) -> bytes:
    """A generator as TensorFlow Lite: float32 (B, H, W, 3) in [-1, 1] → the same; H and W are multiples of 4, and can be set anew.

    Only what keeps the sizes of all tensors known once the input's is: where they are not, the interpreter leaves its fast kernels. That
    is why pictures are padded outside.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    def emit(layer: keras.layers.Layer, x: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        match layer:
            case Convolution():
                sides = [[0, 0], [layer.pad] * 2, [layer.pad] * 2, [0, 0]]
                padded = tf.pad(x, sides, "REFLECT" if layer.reflect else "CONSTANT")
                y = tf.nn.conv2d(padded, array(layer.kernel), layer.strides, "VALID")
                return y + array(layer.bias) if layer.use_bias else y
            case Upconvolution():
                below_and_right = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
                return tf.nn.depth_to_space(tf.nn.conv2d(below_and_right, subpixels(array(layer.kernel)), 1, "VALID"), 2)
            case InstanceNormalization():
                centred = x - tf.reduce_mean(x, (1, 2), keepdims=True)
                variance = tf.reduce_mean(tf.square(centred), (1, 2), keepdims=True)
                return centred * (tf.math.rsqrt(variance + layer.EPSILON) * array(layer.gamma)) + array(layer.beta)
            case keras.layers.BatchNormalization():
                scale = array(layer.gamma) / np.sqrt(array(layer.moving_variance) + layer.epsilon)
                return x * scale + (array(layer.beta) - array(layer.moving_mean) * scale)
            case ResizeConvolution():
                x = tf.nn.depth_to_space(tf.concat([x] * 4, axis=-1), 2)
                return tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), array(layer.kernel), 1, "VALID")
            case keras.layers.ReLU():
                return tf.nn.relu(x)
            case keras.layers.Add():
                return tf.add(x, *others)
            case keras.layers.Activation() if layer.activation is keras.activations.tanh:
                return tf.tanh(x)
        raise unknown(layer)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "input_image")], autograph=False)
    def translate(input_image):
        return {"output_image": replay(generator, input_image, emit)}

    module = tf.Module()
    module.translate = translate
    converter = tf.lite.TFLiteConverter.from_concrete_functions([translate.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] * bool(quantize)
    converter.target_spec.supported_types = [tf.float16] * (quantize == "float16")
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converter.convert()))
    schema = flatbuffer_utils.schema_fb
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = model_files.METADATA, len(model.buffers)
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def subpixels(kernel: np.ndarray) -> np.ndarray:
    """An `Upconvolution`'s kernel → that of a 2×2 convolution to four groups of filters, for the four pixels that one becomes.

    (3, 3, filters, channels) → (2, 2, channels, 4 · filters). TensorFlow Lite has no transposed convolution that pads one side only.
    """
    *_, filters, channels = kernel.shape
    grouped = np.zeros((2, 2, channels, 2, 2, filters), kernel.dtype)
    taps = [(0, 0, 1), (0, 1, 2), (1, 1, 0)]  # which pixel, from the one at hand on; which of those that it becomes; row of the kernel
    for y, down, row in taps:
        for x, right, column in taps:
            grouped[y, x, :, down, right] = kernel[row, column].T
    return grouped.reshape(2, 2, channels, 4 * filters)


def write(generator: keras.Model, metadata: dict, file: AnyPath, format: str, quantize: str | None, pictures: np.ndarray) -> str:
    """Writes a generator as an "onnx" or "tflite" file, loads it, and says how far what it makes of `pictures` is from the generator's own.

    Raises `cli.Stopped` if that is too far.
    """
    file.write_bytes(onnx_model(generator, metadata) if format == "onnx" else tflite_model(generator, metadata, quantize))
    largest, mean, contrast = differences(model_files.load(file, file.read_bytes()), generator, pictures)
    found = f"differs from the checkpoint by {largest:.1g} at most and {mean:.1g} on average, of a range of 2"
    most, average = LIMITS[quantize]
    # A model without its weights differs as much as pictures vary, which need not be much.
    average = min(average, max(contrast / 4, LIMITS[None][1]))
    if not (largest <= most and mean <= average):  # so that NaN is too far as well
        remedy = "use --quantize float16" if quantize == "int8" else "use another --format"
        way = f"{metadata['source']} → {metadata['target']}"
        raise cli.Stopped(
            f"{way}: the {model_files.NAMES[format]} {found}; allowed are {most:g} and {average:.1g}. Nothing is left; {remedy}"
        )
    return found


def differences(model: Callable, generator: keras.Model, pictures: np.ndarray) -> tuple[float, float, float]:
    """How far what a loaded model makes of uint8 pictures, in [-1, 1], is from what its generator does: at most, and on average.

    The third number is how far the latter is from its mean on average. Each picture comes by itself, at last two of another size at once.
    """
    from export_graph import pad

    height, width = pictures.shape[1] // 2 + 1, pictures.shape[2] - 3
    two = np.stack([pictures[0, :height, :width], pictures[-1, ::-1][:height, :width]])
    found, expected = [], []
    for some in (*pictures[:, np.newaxis], two):
        height, width = some.shape[1:3]
        right = generator(convert2float(pad(pad(tf.constant(some), 1), 2)), training=False)[:, :height, :width]
        generated = model.generate(some)
        found.append(np.ravel(generated - right))
        expected.append(np.ravel(right))
        if not np.isfinite(generated).all() or np.abs(model(some).astype(int) - convert2int(generated).numpy()).max() > 1:
            found.append(np.float32([np.nan]))  # what is rounded is something else
    found, expected = np.abs(np.concatenate(found)), np.concatenate(expected)
    return float(found.max()), float(found.mean()), float(np.abs(expected - expected.mean()).mean())


def check_pictures(folder: AnyPath | None, config: Config, side: int) -> np.ndarray:
    """Pictures to check models with, uint8 (N, side, side, 3): the first of a folder, or of the run's records. Raises `InputError`."""
    side = min(side, SIDE)
    if folder is not None:
        try:
            return np.stack([images.centre_square(images.read(file), side) for file in images.find(folder)[:COUNT]])
        except InputError as e:
            raise InputError(f"--pictures {e}") from None
    try:
        readers = [Reader(data, side, batch_size=COUNT // 2, training=False) for data in (config.X, config.Y)]
        batches = [next(iter(reader.feed())) for reader in readers]
    except (InputError, tf.errors.OpError) as e:
        why = str(e) if isinstance(e, InputError) else f"{shards.describe(config.X)}, {shards.describe(config.Y)}: cannot be read"
        raise InputError(f"{why}. The models are checked with pictures: name a folder of some with --pictures") from None
    return convert2int(tf.concat(batches, axis=0)).numpy()
