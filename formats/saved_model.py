"""TensorFlow's SavedModels: a folder that runs without any code of the project, on pictures of any size."""

import json
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from formats import network, translator
from formats.translator import Translator
from networks.layers import InstanceNormalization
from pictures import decoding
from system import devices, graphs
from system.cli import InputError
from system.storage import AnyPath
from utils import convert2float, convert2int

PICTURES = tf.TensorSpec((None, None, None, 3), tf.uint8, "input_image")
STATISTICS = tf.TensorSpec((2, None), tf.float32, "statistics")
Norm = Callable[[InstanceNormalization, tf.Tensor], tf.Tensor]


def load(folder: AnyPath, data: None = None, trust: bool = False) -> Translator:
    """Loads such a model. Raises `InputError` for another one, and unless `trust` for one that does more than pictures need."""
    try:
        model = graphs.load(folder, trust)
    except (InputError, MemoryError):
        raise
    except Exception as e:  # a damaged model can raise nearly anything
        if getattr(e, "errno", None):  # the system's: it cannot be read
            raise
        raise InputError(f"damaged model ({type(e).__name__}); export it anew") from None
    signatures = model.signatures
    if not {"serving_default", "metadata"} <= set(signatures):
        raise InputError(f"a SavedModel, but not one of export_graph.py (its signatures: {', '.join(signatures) or 'none'})")

    def ask(signature: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        return model.signatures[signature](**inputs)[output].numpy()  # a signature alone would not keep the model alive

    return Translator(
        folder,
        translator.parse(ask("metadata", "metadata")),
        devices.device_name(),
        lambda pictures: ask("serving_default", "output_image", input_image=pictures),
        measure=(lambda parts: ask("statistics", "statistics", input_image=parts)) if "statistics" in signatures else None,
        run_part=lambda parts, statistics: ask("translate_part", "output_image", input_image=parts, statistics=statistics),
    )


def write(generator: keras.Model, metadata: dict, folder: AnyPath, xla: bool = False) -> None:
    """Writes a generator, loads it again and compares the two. `xla`: the model compiles itself.

    metadata["quantize"], if any, is "float16": weights are kept in it. Raises `RuntimeError` if the model translates otherwise.
    """
    module = tf.Module()
    functions = Functions(generator, metadata, xla)
    module.weights, module.functions = functions.weights, functions.signatures()
    tf.saved_model.save(module, str(folder), module.functions)
    check(folder, generator, close="quantize" in metadata)


class Functions:
    """What an exported model can be asked. Its weights are variables, stored once: of constants each function would have copies."""

    def __init__(self, generator: keras.Model, metadata: dict, xla: bool = False):
        self.generator, self.metadata = generator, metadata
        kept_as = "float16" if metadata.get("quantize") else "float32"
        self.weights = [tf.Variable(w.numpy().astype(kept_as), trainable=False) for w in generator.weights]
        self.generate = tf.function(self._generate, jit_compile=xla or None, autograph=False)

    def signatures(self) -> dict[str, Callable]:
        """By name. Only instance normalisation has statistics of its own for each picture."""
        functions = {
            "serving_default": (self.translate, [PICTURES]),
            "translate_encoded": (self.translate_encoded, [tf.TensorSpec((None,), tf.string, "image_bytes")]),
            "metadata": (lambda: {"metadata": tf.constant(json.dumps(self.metadata))}, []),
        }
        if any(isinstance(layer, InstanceNormalization) for layer in self.generator.layers):
            functions |= {"statistics": (self.statistics, [PICTURES]), "translate_part": (self.translate_part, [PICTURES, STATISTICS])}
        return {name: tf.function(f, input_signature=inputs, autograph=False) for name, (f, inputs) in functions.items()}

    def network(self, pictures: tf.Tensor, norm: Norm | None = None) -> tf.Tensor:
        """uint8 (B, H, W, 3) → float32 in [-1, 1], padded as the network needs it. `norm` takes the place of each instance norm."""

        def emit(layer, *inputs):
            if norm and isinstance(layer, InstanceNormalization):
                return norm(layer, *inputs)
            return layer(inputs if len(inputs) > 1 else inputs[0], training=False)

        for axis in (1, 2):
            index = network.padding(tf.shape(pictures)[axis], self.generator.multiple, self.generator.smallest, keras.ops)
            pictures = tf.gather(pictures, index, axis=axis)
        weights = [tf.cast(weight, tf.float32) for weight in self.weights]
        with keras.StatelessScope(state_mapping=zip(self.generator.weights, weights, strict=True)):
            return network.replay(self.generator, convert2float(pictures), emit)

    def _generate(self, pictures: tf.Tensor, norm: Norm | None = None) -> tf.Tensor:
        height, width = tf.shape(pictures)[1], tf.shape(pictures)[2]
        return convert2int(self.network(pictures, norm))[:, :height, :width]

    def translate(self, input_image):
        """uint8 (B, H, W, 3), any height and width → the same, translated."""
        return {"output_image": tf.ensure_shape(self.generate(input_image), PICTURES.shape)}

    def translate_encoded(self, image_bytes):
        """Picture files, JPEG, PNG, BMP or GIF, whose sizes may differ → PNG files, with alpha where the picture has it."""

        def translate_one(encoded):
            picture, alpha = decoding.decode(encoded)
            translated = self.generate(decoding.continued(picture, alpha)[tf.newaxis])[0]
            file = tf.io.encode_png
            return tf.cond(decoding.has_alpha(alpha), lambda: file(tf.concat([translated, alpha], -1)), lambda: file(translated))

        return {"output_bytes": tf.map_fn(translate_one, image_bytes, fn_output_signature=tf.string)}

    def statistics(self, input_image):
        """Parts of one picture → the means and variances that all of them together give its normalisations, float (2, channels)."""
        taken = []

        def norm(layer, x):
            taken.append(layer.statistics(x, (0, 1, 2)))
            return layer.normalize(x, *taken[-1])

        self.network(input_image, norm)
        return {"statistics": tf.concat([tf.reshape(tf.stack(both), (2, -1)) for both in taken], axis=1)}

    def translate_part(self, input_image, statistics):
        """A part of a picture whose `statistics` these are → the same part, translated as in the whole picture."""
        left = statistics

        def norm(layer, x):
            nonlocal left
            mean, variance = tf.unstack(left[:, : x.shape[-1]])
            left = left[:, x.shape[-1] :]
            return layer.normalize(x, mean, variance)

        return {"output_image": tf.ensure_shape(self.generate(input_image, norm), PICTURES.shape)}


def check(folder: AnyPath, generator: keras.Model, close: bool = False) -> None:
    """Raises `RuntimeError` unless the model in `folder` translates a random picture as `generator` does, or nearly so if `close`."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    padded = network.pad(picture, generator.multiple, generator.smallest)
    expected = convert2int(generator(convert2float(padded), training=False)).numpy()[:, :64, :96]
    difference = np.abs(load(folder)(picture).astype(int) - expected.astype(int))
    # Rounding may differ by one level; in 16 bits, layer by layer, it adds up.
    sixteen_bits = close or "16" in generator.layers[1].compute_dtype
    if difference.max() > 1 and not (sixteen_bits and difference.mean() < 2.5):
        raise RuntimeError(f"the exported model differs from the checkpoint by up to {difference.max()} of 255")
