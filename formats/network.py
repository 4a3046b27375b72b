"""What the formats share: layers in order, padding, the check of what was written. Loads without TensorFlow, as ONNX models run without."""

from collections.abc import Callable
from typing import Any

import numpy as np

from formats.translator import Translator
from system.cli import Stopped

# How much of the range, 2, a model may differ from the checkpoint: at most, and on average.
LIMITS = {None: (1e-3, 1e-3), "float16": (0.02, 0.02), "int8": (2.0, 0.05)}


def replay(generator, picture: Any, emit: Callable[..., Any]) -> Any:
    """Goes through a generator's layers: `emit(layer, *inputs)` is called for the output of each. Returns that of the last."""
    first, *layers = generator.layers
    values = {id(first.output): picture}
    for layer in layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        values[id(layer.output)] = emit(layer, *(values[id(x)] for x in inputs))
    return values[id(layers[-1].output)]


def by_kind(emitter: Any) -> Callable[..., Any]:
    """An object with a method for each kind of layer, named as its class or one of that class's bases → an `emit` for `replay`."""

    def emit(layer, *inputs):
        for kind in type(layer).__mro__:
            if hasattr(emitter, kind.__name__):
                return getattr(emitter, kind.__name__)(layer, *inputs)
        raise TypeError(f"{layer.name}: {type(emitter).__name__} has no method for a {type(layer).__name__}")

    return emit


def padding(size, multiple: int, smallest: int, xp):
    """Which of its `size` pixels make an axis as long as the network takes, a multiple of `multiple`, at least `smallest`: integers (n,).

    At the end it is mirrored, or its last pixel is repeated where there is too little to mirror. `xp` is NumPy, `keras.ops`, or anything
    with their arange, abs, minimum, maximum and where; `size` is an integer or what those take for one.
    """
    last = size - 1
    padded = xp.maximum((size + (multiple - 1)) // multiple * multiple, smallest)
    index = xp.arange(padded)
    return xp.where(padded - size < size, last - xp.abs(last - index), xp.minimum(index, last))


def pad(pictures: np.ndarray, multiple: int, smallest: int) -> np.ndarray:
    """(B, H, W, 3) → the same with `padding` in height and width."""
    height, width = (padding(size, multiple, smallest, np) for size in pictures.shape[1:3])
    return pictures.take(height, axis=1).take(width, axis=2)


def to_float(pictures: np.ndarray) -> np.ndarray:
    """As `utils.convert2float`: uint8 → float32 in [-1, 1]."""
    return pictures.astype(np.float32) / np.float32(127.5) - 1


def to_int(generated: np.ndarray) -> np.ndarray:
    """As `utils.convert2int`: float32 in [-1, 1] → uint8, rounded and clipped."""
    return np.clip(np.rint((generated + 1) * 127.5), 0, 255).astype(np.uint8)


def check(name: str, model: Translator, generator, pictures: np.ndarray) -> str:
    """Says how far what a loaded model makes of uint8 pictures is from what its generator does. Raises `Stopped` if that is too far."""
    largest, mean, contrast = differences(model, generator, pictures)
    found = f"differs from the checkpoint by {largest:.1g} at most and {mean:.1g} on average, of a range of 2"
    quantize = model.metadata.get("quantize")
    most, average = LIMITS[quantize]
    # A model without its weights differs as much as pictures vary, which need not be much.
    average = min(average, max(contrast / 4, LIMITS[None][1]))
    if not (largest <= most and mean <= average):  # so that NaN is too far as well
        remedy = "use --quantize float16" if quantize == "int8" else "use another --format"
        way = f"{model.metadata['source']} → {model.metadata['target']}"
        raise Stopped(f"{way}: the {name} {found}; allowed are {most:g} and {average:.1g}. Nothing is left; {remedy}")
    return found


def differences(model: Translator, generator, pictures: np.ndarray) -> tuple[float, float, float]:
    """How far what a loaded model makes of uint8 pictures, in [-1, 1], is from what its generator does: at most, and on average.

    The third number is how far the latter is from its mean on average. Each picture comes by itself, at last two of another size at once.
    """
    height, width = pictures.shape[1] // 2 + 1, pictures.shape[2] - 3
    two = np.stack([pictures[0, :height, :width], pictures[-1, ::-1][:height, :width]])
    found, expected = [], []
    for some in (*pictures[:, np.newaxis], two):
        height, width = some.shape[1:3]
        padded = to_float(pad(some, generator.multiple, generator.smallest))
        right = np.array(generator(padded, training=False))[:, :height, :width]
        generated = model.generate(some)
        found.append(np.ravel(generated - right))
        expected.append(np.ravel(right))
        if not np.isfinite(generated).all() or np.abs(model(some).astype(int) - to_int(generated)).max() > 1:
            found.append(np.float32([np.nan]))  # the rounded picture is another one
    found, expected = np.abs(np.concatenate(found)), np.concatenate(expected)
    return float(found.max()), float(found.mean()), float(np.abs(expected - expected.mean()).mean())
