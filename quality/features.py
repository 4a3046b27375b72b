"""Pictures → vectors that describe their content, by a network trained to recognise things: what FID and KID compare."""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from pictures import images
from system import graphs
from system.cli import InputError
from system.storage import AnyPath

INCEPTION_SIDE = 299
BATCH = 32


@dataclass(frozen=True)
class Features:
    """A network that is called with uint8 pictures (H, W, 3), of any sizes, and returns float32 (N, D).

    Each is resized to `side` × `side`, bicubic and antialiased, whatever its aspect; if `first_side` is given, to that size before: so real
    pictures have no more detail than those of a model of that size.
    """

    name: str
    side: int
    network: Callable[[np.ndarray], np.ndarray]  # uint8 (B, side, side, 3) → float32 (B, D)
    first_side: int | None = None

    def __call__(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        first, vectors = self.first_side or self.side, []
        resized = (images.resize(images.resize(picture, first, first), self.side, self.side) for picture in pictures)
        while batch := list(itertools.islice(resized, BATCH)):
            vectors.append(np.asarray(self.network(np.stack(batch)), np.float32))
        return np.concatenate(vectors)


class _OneLine(io.TextIOBase):
    """Takes what Keras prints, which is about the download of the weights, and says so in one line of ours."""

    said = False

    def write(self, text: str) -> int:
        if not self.said:
            print("fetching the weights of InceptionV3, 88 MB, which Keras keeps", file=sys.stderr, flush=True)
        self.said = True
        return len(text)


def inception() -> Features:
    """Keras' InceptionV3, 2048 numbers from its last pooling. Keras fetches the weights once. Raises `InputError` if it cannot."""
    import keras

    try:
        with contextlib.redirect_stdout(_OneLine()):
            network = keras.applications.InceptionV3(include_top=False, pooling="avg")
    except Exception as e:  # whatever a download, or a damaged file, can raise
        raise InputError(
            f"--features: Keras cannot fetch the weights of InceptionV3 ({' '.join(str(e).split())[:160]}); "
            f"connect to the network once, or name a SavedModel of features"
        ) from None
    name = "InceptionV3 of Keras, ImageNet weights (not those of the published FID)"
    return Features(name, INCEPTION_SIDE, lambda pictures: network.predict_on_batch(pictures / np.float32(127.5) - 1))


def load(file: AnyPath, trust: bool = False) -> Features:
    """A SavedModel whose signature serving_default takes pictures (B, H, W, 3) and returns vectors (B, D).

    The type of its input decides the range of values: uint8 0 … 255, or floats in [0, 1] as for TensorFlow Hub's models of pictures. Its
    shape decides the size; if that is open, it is InceptionV3's. Raises `InputError`, and unless `trust` for one that does more than
    pictures need.
    """
    import tensorflow as tf

    wrong = f"--features {file}:"
    if not (file / "saved_model.pb").is_file():
        raise InputError(f"{wrong} no SavedModel (a folder with saved_model.pb)")
    try:
        model = graphs.load(file, trust)
        signature = model.signatures["serving_default"]
    except InputError as e:
        raise InputError(f"{wrong} {e}") from None
    except Exception as e:  # a damaged model can raise nearly anything
        raise InputError(f"{wrong} cannot be loaded, or has no signature serving_default ({type(e).__name__})") from None
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    vectors = [name for name, spec in outputs.items() if spec.shape.rank == 2]
    if len(inputs) != 1 or len(vectors) != 1:
        raise InputError(f"{wrong} takes {', '.join(inputs)} and returns {', '.join(outputs)}: needs one input, and one output (B, D)")
    ((name, spec),) = inputs.items()
    shape, numbers = spec.shape.as_list() if spec.shape.rank == 4 else [], spec.dtype == tf.uint8 or spec.dtype.is_floating
    if shape[:1] != [None] or shape[3] not in (3, None) or shape[1] != shape[2] or not numbers:
        found = f"{spec.dtype.name} {spec.shape}"
        raise InputError(f"{wrong} its input {name} is {found}: needs square pictures, (None, H, H, 3), uint8 or float")

    def network(pictures: np.ndarray) -> np.ndarray:
        pictures = tf.constant(pictures) if spec.dtype == tf.uint8 else tf.cast(pictures, spec.dtype) / 255
        return model.signatures["serving_default"](**{name: pictures})[vectors[0]].numpy()  # a signature does not keep its model alive

    return Features(str(file), shape[1] or INCEPTION_SIDE, network)
