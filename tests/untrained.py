"""A run folder that nobody trained: checkpoints of generators whose weights the tests know."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw

from generator import Generator, UNet, build_generator
from ops import c7s1_3, c7s1_k, normalization
from training.checkpoints import Checkpoints
from training.config import Config
from utils import convert2float, convert2int

NAMES = ("G", "F", "G_ema", "F_ema")


class Shallow(keras.Model):
    """The first and the last convolution of a generator, where it does not matter what lies between."""

    multiple, smallest = Generator.multiple, Generator.smallest

    def __init__(self, ngf: int, norm: str = Config.norm):
        picture = keras.Input((None, None, 3), name="picture")
        super().__init__(picture, c7s1_3()(c7s1_k(ngf, functools.partial(normalization, norm))(picture)), name="shallow")


def shuffled(generator: keras.Model, seed: int) -> keras.Model:
    """Gives a generator random weights, scales and offsets included, that make pictures of good contrast."""
    draw = np.random.default_rng(seed)
    for weight in generator.weights:
        size = (2 / np.prod(weight.shape[:-1])) ** 0.5 if len(weight.shape) == 4 else 0.3
        centre = float(weight.path.endswith(("gamma", "moving_variance")))
        weight.assign(centre + np.clip(draw.normal(0, size, weight.shape), -0.6, None))
    return generator


# U-Nets of every norm, with either upsampling.
EACH_UNET = pytest.mark.parametrize(
    ("norm", "upsample"), [("batch", "transpose"), ("instance", "resize"), ("picture", "transpose"), ("none", "resize")]
)


def unet(norm: str, upsample: str, ngf: int = 4) -> UNet:
    return shuffled(UNet(ngf, 3, norm, upsample, dropout=True), 3)


def assert_translates(model, generator: UNet, most: int = 1) -> None:
    """The model makes of pictures, whose sides no U-Net takes, what the generator does, which gets them with a mirrored edge."""
    some = np.stack([draw(seed, 13, 18) for seed in range(2)])
    padded = np.pad(some, [(0, 0), (0, 3), (0, 6), (0, 0)], "reflect")
    expected = convert2int(generator(convert2float(padded), training=False)).numpy()[:, :13, :18]
    assert expected.std() > 20  # there is something to compare
    found = model(some)
    assert found.shape == some.shape and np.abs(found.astype(int) - expected).max() <= most


def write_run(run: Path, records: list[str], **settings) -> dict[int, dict[str, Generator]]:
    """Writes a run with checkpoints of two steps; returns what is in each, the generators by their names."""
    _, X, _, Y = records
    config = Config(**{"X": X, "Y": Y, "image_size": 32, "ngf": 2, "n_res_blocks": 1, "ema": 0.9, "precision": "float32", **settings})
    run.mkdir(parents=True)
    config.save(run)
    found = {}
    for step in (4, 6):
        module = tf.Module()
        module.step = tf.Variable(step, dtype=tf.int64)
        found[step] = {name: shuffled(build_generator(config, name), 10 * step + i) for i, name in enumerate(NAMES)}
        for name, generator in found[step].items():
            setattr(module, name, generator)
        Checkpoints(run, module).save(step)
    return found
