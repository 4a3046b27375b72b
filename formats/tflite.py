"""TensorFlow Lite files, for phones and small boards: the network alone, layer by layer; what else there is to do is done here.

Weights are written as constants: TensorFlow Lite's converter has lost, without a word, those that a model merely held.
"""

import json
import os
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from formats import network, translator
from formats.translator import Translator
from system import devices, graphs
from system.storage import AnyPath


def load(file: AnyPath, data: bytes, trust: bool = False) -> Translator:
    """Loads such a model. Raises `Foreign` for another one, or whatever TensorFlow raises; `InputError` as `check` does unless `trust`."""
    model = flatbuffer_utils.schema_fb.Model.GetRootAsModel(data, 0)
    if not trust:
        check(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow means to give its interpreter to a package of its own, some day
        interpreter = tf.lite.Interpreter(model_content=data, num_threads=os.cpu_count())
    entries = (model.Metadata(i) for i in range(model.MetadataLength()))
    ours = next((entry.Buffer() for entry in entries if entry.Name() == translator.METADATA.encode()), None)
    metadata = translator.parse(None if ours is None else model.Buffers(ours).DataAsNumpy().tobytes())
    runner = interpreter.get_signature_runner("serving_default")
    smallest = metadata["smallest"]
    with devices.silent_stderr():  # where the first run says which kernels it has found
        runner(input_image=np.zeros((1, smallest, smallest, 3), np.float32))

    def generate(pictures: np.ndarray) -> np.ndarray:
        height, width = pictures.shape[1:3]
        padded = network.to_float(network.pad(pictures, metadata["multiple"], smallest))
        return translator.alike(runner(input_image=padded)["output_image"], padded)[:, :height, :width]

    return Translator(file, metadata, "CPU", lambda pictures: network.to_int(generate(pictures)), generate)


def check(model: flatbuffer_utils.schema_fb.Model) -> None:
    """Raises `InputError` if a model has operations that are not TensorFlow Lite's own: any of TensorFlow's are among them ("Flex…")."""
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    if custom := sorted({code.CustomCode().decode(errors="replace") for code in codes if code.CustomCode() is not None}):
        raise graphs.unneeded(f"holds {', '.join(custom)}")


def write(generator: keras.Model, metadata: dict, file: AnyPath) -> None:
    """Writes a generator: float32 (B, H, W, 3) in [-1, 1] → the same. H and W are such as the network takes, and can be set anew.

    metadata["quantize"], if any, is "float16" or "int8". Only what keeps the sizes of all tensors known once the input's is: where they
    are not, the interpreter leaves its fast kernels. That is why pictures are padded outside.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "input_image")], autograph=False)
    def translate(input_image):
        return {"output_image": network.replay(generator, input_image, network.by_kind(Layers()))}

    module, quantize = tf.Module(), metadata.get("quantize")
    module.translate = translate
    converter = tf.lite.TFLiteConverter.from_concrete_functions([translate.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] * bool(quantize)
    converter.target_spec.supported_types = [tf.float16] * (quantize == "float16")
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converter.convert()))
    entry, buffer = flatbuffer_utils.schema_fb.MetadataT(), flatbuffer_utils.schema_fb.BufferT()
    entry.name, entry.buffer = translator.METADATA, len(model.buffers)
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    file.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def array(weight: keras.Variable) -> np.ndarray:
    """A weight's value, while something is traced as well: files hold constants, which no converter can lose sight of."""
    with tf.init_scope():
        return weight.numpy()


class Layers:
    """A method for each kind of layer, in operations that TensorFlow Lite has fast kernels for."""

    def Convolution(self, layer, x):
        x = tf.pad(x, [[0, 0], [layer.pad] * 2, [layer.pad] * 2, [0, 0]], "REFLECT" if layer.reflect else "CONSTANT")
        y = tf.nn.conv2d(x, array(layer.kernel), layer.strides, "VALID")
        return y + array(layer.bias) if layer.use_bias else y

    def Upconvolution(self, layer, x):
        above = layer.kernel_size[0] - 3  # pixels, and to the left
        around = tf.pad(x, [[0, 0], [above, 1], [above, 1], [0, 0]])
        y = tf.nn.depth_to_space(tf.nn.conv2d(around, subpixels(array(layer.kernel)), 1, "VALID"), 2)
        y = y[:, 1:-1, 1:-1] if above else y
        return y + array(layer.bias) if layer.use_bias else y

    def ResizeConvolution(self, layer, x):
        x = tf.nn.depth_to_space(tf.concat([x] * 4, axis=-1), 2)
        y = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), array(layer.kernel), 1, "VALID")
        return y + array(layer.bias) if layer.use_bias else y

    def InstanceNormalization(self, layer, x):
        centred = x - tf.reduce_mean(x, (1, 2), keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), (1, 2), keepdims=True)
        return centred * (tf.math.rsqrt(variance + layer.EPSILON) * array(layer.gamma)) + array(layer.beta)

    def BatchNormalization(self, layer, x):
        scale = array(layer.gamma) / np.sqrt(array(layer.moving_variance) + layer.epsilon)
        return x * scale + (array(layer.beta) - array(layer.moving_mean) * scale)

    def ReLU(self, layer, x):
        return tf.nn.relu(x)

    def LeakyReLU(self, layer, x):
        return tf.nn.leaky_relu(x, layer.negative_slope)

    def Dropout(self, layer, x):
        return x

    def Add(self, layer, x, y):
        return x + y

    def Concatenate(self, layer, x, y):
        return tf.concat([x, y], axis=-1)

    def Activation(self, layer, x):
        return {"tanh": tf.tanh}[layer.activation.__name__](x)


def subpixels(kernel: np.ndarray) -> np.ndarray:
    """An `Upconvolution`'s kernel → that of a 2×2 convolution to four groups of filters, for the four pixels that one becomes.

    (k, k, filters, channels) → (2, 2, channels, 4 · filters). With k = 4 the four are between pixels: one row and column more come out on
    each side. With weights of 8 bits TensorFlow Lite's transposed convolution, which would have to be cropped, makes the whole network
    seven times as slow.
    """
    k, _, filters, channels = kernel.shape
    grouped = np.zeros((2, 2, channels, 2, 2, filters), kernel.dtype)
    # Which pixel, from the first on; which of those that it becomes; row of the kernel.
    taps = [(0, 0, 1), (0, 1, 2), (1, 1, 0)] if k == 3 else [(0, 0, 2), (0, 1, 3), (1, 0, 0), (1, 1, 1)]
    for y, down, row in taps:
        for x, right, column in taps:
            grouped[y, x, :, down, right] = kernel[row, column].T
    return grouped.reshape(2, 2, channels, 4 * filters)
