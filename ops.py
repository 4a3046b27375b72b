"""The blocks of the papers' networks, named as in CycleGAN's (appendix 7.2); pix2pix' U-Net (appendix 6.1) has no names for its own.

Each function returns a callable of one tensor, (B, H, W, channels), that works on symbolic and real tensors alike. The number type is
that of Keras' dtype policy.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from networks.layers import BatchNormalization, Convolution, Dropout, FewFilters, InstanceNormalization, ResizeConvolution, Upconvolution

Block = Callable[[tf.Tensor], tf.Tensor]
Norm = Callable[[], Block]  # makes a new layer, see `normalization`


def normalization(kind: str, affine: bool = True) -> Block:
    """A layer that normalises, with learned scale and offset if `affine`; each call makes a new one.

    "instance": each picture and channel by itself. "batch": each channel over the batch; "picture" is the same for batches of one, also
    once it is trained, where "batch" takes means over all batches seen. "none": nothing.
    """
    kinds = {"instance": InstanceNormalization, "batch": BatchNormalization, "picture": InstanceNormalization}
    if kind != "none" and kind not in kinds:
        raise ValueError(f"norm {kind!r}: use 'instance', 'batch', 'picture' or 'none'")
    return _same if kind == "none" else kinds[kind](affine)


def _same(x: tf.Tensor) -> tf.Tensor:
    return x


def _weights(bias: bool = False) -> dict:
    # A fresh initializer for each layer: a shared one would give equal kernels to layers of equal shape.
    return {"use_bias": bias, "kernel_initializer": keras.initializers.RandomNormal(stddev=0.02)}


def _chain(*layers: Block) -> Block:
    return lambda x: functools.reduce(lambda y, layer: layer(y), layers, x)


def _full_precision(activation: str) -> Block:
    # The last of a network: losses are sums over many pixels, and pictures have 256 levels, one more than bfloat16 tells apart.
    return keras.layers.Activation(activation, dtype=keras.config.floatx())


def c7s1_k(k: int, norm: Norm) -> Block:
    """7×7 Convolution-Norm-ReLU with k filters and stride 1, reflection padding: (B, H, W, ·) → (B, H, W, k)."""
    return _chain(Convolution(k, 7, pad=3, reflect=True, **_weights()), norm(), keras.layers.ReLU())


def c7s1_3() -> Block:
    """The generator's last layer, 7×7 Convolution-tanh with 3 filters and a bias: (B, H, W, ·) → (B, H, W, 3) in [-1, 1]."""
    return _chain(FewFilters(3, 7, pad=3, reflect=True, **_weights(bias=True)), _full_precision("tanh"))


def dk(k: int, norm: Norm) -> Block:
    """3×3 Convolution-Norm-ReLU with k filters and stride 2: (B, H, W, ·) → (B, H/2, W/2, k) for even H and W."""
    return _chain(Convolution(k, 3, 2, pad=1, **_weights()), norm(), keras.layers.ReLU())


def Rk(k: int, norm: Norm, dropout: bool = False) -> Block:
    """Residual block, two 3×3 convolutions with k filters and reflection padding: (B, H, W, k) → (B, H, W, k)."""
    first = _chain(Convolution(k, 3, pad=1, reflect=True, **_weights()), norm(), keras.layers.ReLU(), *[Dropout()] * dropout)
    second = _chain(Convolution(k, 3, pad=1, reflect=True, **_weights()), norm())
    return lambda x: keras.layers.Add()([x, second(first(x))])


def uk(k: int, norm: Norm, upsample: str) -> Block:
    """Doubles height and width, Norm-ReLU, k filters: (B, H, W, ·) → (B, 2·H, 2·W, k).

    By an `Upconvolution` ("transpose", the paper's), or a `ResizeConvolution` ("resize"), which leaves no checkerboard.
    """
    return _chain(_up(k, 3, upsample), norm(), keras.layers.ReLU())


def _up(k: int, kernel_size: int, upsample: str, bias: bool = False) -> Block:
    if upsample not in ("transpose", "resize"):
        raise ValueError(f"upsample {upsample!r}: use 'transpose' or 'resize'")
    return Upconvolution(k, kernel_size, 2, **_weights(bias)) if upsample == "transpose" else ResizeConvolution(k, 3, **_weights(bias))


def down(k: int, norm: Norm | None, first: bool = False, bias: bool = False) -> Block:
    """A U-Net's step down, LeakyReLU-4×4 Convolution-Norm, k filters, stride 2: (B, H, W, ·) → (B, H/2, W/2, k); `first`: no LeakyReLU."""
    before = [] if first else [leaky_relu()]
    return _chain(*before, Convolution(k, 4, 2, pad=1, **_weights(bias)), *([norm()] if norm else []))


def up(k: int, norm: Norm, upsample: str, dropout: bool = False) -> Block:
    """A U-Net's step up, ReLU-4×4 Upconvolution-Norm, k filters: (B, H, W, ·) → (B, 2·H, 2·W, k); a `ResizeConvolution` with "resize"."""
    return _chain(keras.layers.ReLU(), _up(k, 4, upsample), norm(), *[Dropout()] * dropout)


def up_3(upsample: str) -> Block:
    """A U-Net's last step up, to a picture: (B, H, W, ·) → (B, 2·H, 2·W, 3) in [-1, 1]."""
    return _chain(keras.layers.ReLU(), _up(3, 4, upsample, bias=True), _full_precision("tanh"))


def leaky_relu() -> Block:
    return keras.layers.LeakyReLU(negative_slope=0.2)


def Ck(k: int, norm: Norm | None, strides: int = 2) -> Block:
    """4×4 Convolution-Norm-LeakyReLU (slope 0.2) with k filters, symmetric padding of 1; without a norm it has a bias.

    (B, H, W, ·) → (B, H/2, W/2, k) with stride 2, (B, H-1, W-1, k) with stride 1.
    """
    convolution = Convolution(k, 4, strides, pad=1, **_weights(bias=norm is None))
    return _chain(convolution, *([norm()] if norm else []), leaky_relu())


def C1x1(k: int, norm: Norm | None) -> Block:
    """As `Ck`, but of each pixel by itself: (B, H, W, ·) → (B, H, W, k)."""
    return _chain(Convolution(k, 1, **_weights(bias=norm is None)), *([norm()] if norm else []), leaky_relu())


def patch_logits() -> Block:
    """The discriminator's last layer, a 4×4 convolution to one channel: (B, H, W, ·) → (B, H-1, W-1, 1)."""
    return _chain(FewFilters(1, 4, pad=1, **_weights(bias=True)), _full_precision("linear"))


def pixel_logits() -> Block:
    """The last layer of a discriminator of pixels, (B, H, W, ·) → (B, H, W, 1)."""
    return _chain(Convolution(1, 1, **_weights(bias=True)), _full_precision("linear"))
