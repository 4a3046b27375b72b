"""The generators: Johnson et al.'s ResNet as CycleGAN uses it (Zhu et al. 2017, appendix 7.2), pix2pix' U-Net (Isola et al. 2017)."""

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from networks.layers import Dropout
from ops import Rk, c7s1_3, c7s1_k, dk, down, normalization, uk, up, up_3
from system.devices import number_type
from training.config import Config


class Generator(keras.Model):
    """c7s1-64, d128, d256, R256 × n, u128, u64, c7s1-3, for ngf = 64.

    (B, H, W, 3) in [-1, 1] → (B, H, W, 3) in [-1, 1]; H and W are multiples of 4, at least 8, and may differ from those in training.
    """

    multiple, smallest = 4, 8  # what divides H and W, and what they are at least

    def __init__(
        self,
        ngf: int,
        n_res_blocks: int,
        norm: str = "instance",
        upsample: str = "resize",
        affine: bool = True,
        dropout: bool = False,
        name: str = "generator",
    ):
        norm = functools.partial(normalization, norm, affine)
        x = picture = keras.Input((None, None, 3), name="picture")
        x = c7s1_k(ngf, norm)(x)  # (B, H, W, ngf)
        x = dk(2 * ngf, norm)(x)  # (B, H/2, W/2, 2·ngf)
        x = dk(4 * ngf, norm)(x)  # (B, H/4, W/4, 4·ngf)
        for _ in range(n_res_blocks):
            x = Rk(4 * ngf, norm, dropout)(x)  # (B, H/4, W/4, 4·ngf)
        x = uk(2 * ngf, norm, upsample)(x)  # (B, H/2, W/2, 2·ngf)
        x = uk(ngf, norm, upsample)(x)  # (B, H, W, ngf)
        x = c7s1_3()(x)  # (B, H, W, 3)
        super().__init__(picture, x, name=name)


class UNet(keras.Model):
    """Down to pictures of 1/2ⁿ of the side in n `levels` and up again, and each level's picture is handed across: C64-C128-C256-C512-… .

    (B, H, W, 3) in [-1, 1] → (B, H, W, 3) in [-1, 1]; H and W are multiples of 2ⁿ, and may differ from those in training. The first and
    the innermost step down have no normalisation; the paper means the latter to have one, but what is 1×1 it would make 0. Dropout comes
    after the three innermost steps up: of 256 pixels at 2×2, 4×4 and 8×8, as in the paper (its PyTorch code: 4×4, 8×8 and 16×16).
    """

    def __init__(
        self,
        ngf: int,
        levels: int,
        norm: str = "batch",
        upsample: str = "transpose",
        affine: bool = True,
        dropout: bool = False,
        name: str = "generator",
    ):
        bias = norm == "instance"  # where nothing normalises; as the authors' code has it
        norm = functools.partial(normalization, norm, affine)
        widths = [ngf * min(2**level, 8) for level in range(levels)]
        x = picture = keras.Input((None, None, 3), name="picture")
        skips = []
        for level, k in enumerate(widths):
            plain = level in (0, levels - 1)
            x = down(k, None if plain else norm, first=level == 0, bias=bias and plain)(x)  # (B, H/2ˡ⁺¹, W/2ˡ⁺¹, k)
            skips.append(x)
        for level in reversed(range(1, levels)):
            x = up(widths[level - 1], norm, upsample, dropout and level >= levels - 3)(x)  # (B, H/2ˡ, W/2ˡ, k)
            x = keras.layers.Concatenate()([skips[level - 1], x])  # (B, H/2ˡ, W/2ˡ, 2·k)
        x = up_3(upsample)(x)  # (B, H, W, 3)
        super().__init__(picture, x, name=name)
        self.multiple = self.smallest = 2**levels  # what divides H and W, and what they are at least


def build_generator(config: Config, name: str) -> Generator | UNet:
    """The generator that a run's settings describe, with fresh weights."""
    common = {"norm": config.normalization, "upsample": config.upsample, "affine": config.affine, "dropout": config.dropout, "name": name}
    with number_type(config.precision):
        if config.generator == "unet":
            return UNet(config.ngf, config.unet_levels, **common)
        return Generator(config.ngf, config.n_res_blocks, **common)


@contextlib.contextmanager
def without_dropout(generator: keras.Model) -> Iterator[None]:
    """In this block nothing is dropped, in training either."""
    seeds = {layer: layer.seed for layer in generator.layers if isinstance(layer, Dropout)}
    try:
        for layer in seeds:
            layer.seed = None
        yield
    finally:
        for layer, seed in seeds.items():
            layer.seed = seed


def seed_dropout(generators: Iterable[keras.Model], seed: int, step: tf.Variable) -> None:
    """What dropout drops in training becomes a function of (seed, step, picture of the batch, layer)."""

    def give(layer: Dropout, number: int) -> None:
        layer.seed = lambda: tf.random.fold_in([seed, number], step, "philox")

    layers = (layer for generator in generators for layer in generator.layers if isinstance(layer, Dropout))
    for number, layer in zip(itertools.count(1), layers, strict=False):  # the pools have 0
        give(layer, number)
