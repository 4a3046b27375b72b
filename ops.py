"""The blocks of the paper's networks as Keras layers, named as in its appendix (section 7.2).

Each function returns a callable of one tensor, (B, H, W, channels), that works on symbolic and real tensors alike. The number type is
that of Keras' dtype policy.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

Block = Callable[[tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable("cyclegan")
class ReflectionPadding2D(keras.layers.Layer):
    """Pads height and width by `pad` pixels on each side, mirrored without repeating the edge (as PyTorch's ReflectionPad2d)."""

    def __init__(self, pad: int, **kwargs):
        super().__init__(**kwargs)
        self.pad = pad

    def call(self, x):
        return tf.pad(x, [[0, 0], [self.pad, self.pad], [self.pad, self.pad], [0, 0]], "REFLECT")

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return (batch, height and height + 2 * self.pad, width and width + 2 * self.pad, channels)

    def get_config(self):
        return {**super().get_config(), "pad": self.pad}


def normalization(norm: str) -> keras.layers.Layer:
    """Instance normalisation (each picture and channel by itself) or batch normalisation, with learned scale and offset."""
    if norm == "instance":
        return keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    if norm == "batch":
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    raise ValueError(f"norm {norm!r}: use 'instance' or 'batch'")


def _convolution(layer: type, filters: int, kernel: int, strides: int = 1, bias: bool = False) -> keras.layers.Layer:
    # A fresh initializer for each layer: a shared one would give equal kernels to layers of equal shape.
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    return layer(filters, kernel, strides, padding="valid", use_bias=bias, kernel_initializer=initializer)


def _chain(*layers: Block) -> Block:
    def apply(x):
        for layer in layers:
            x = layer(x)
        return x

    return apply


def _relu() -> Block:
    return keras.layers.ReLU()


def c7s1_k(k: int, norm: str) -> Block:
    """7×7 Convolution-Norm-ReLU with k filters and stride 1, reflection padding: (B, H, W, ·) → (B, H, W, k)."""
    return _chain(ReflectionPadding2D(3), _convolution(keras.layers.Conv2D, k, 7), normalization(norm), _relu())


def c7s1_3() -> Block:
    """The generator's last layer, 7×7 Convolution-tanh with 3 filters and a bias: (B, H, W, ·) → (B, H, W, 3) in [-1, 1]."""
    return _chain(ReflectionPadding2D(3), _convolution(keras.layers.Conv2D, 3, 7, bias=True), keras.layers.Activation("tanh"))


def dk(k: int, norm: str) -> Block:
    """3×3 Convolution-Norm-ReLU with k filters and stride 2: (B, H, W, ·) → (B, H/2, W/2, k) for even H and W.

    The zero padding is symmetric, as in the authors' code: TensorFlow's "same" would pad the right and the bottom only.
    """
    return _chain(keras.layers.ZeroPadding2D(1), _convolution(keras.layers.Conv2D, k, 3, 2), normalization(norm), _relu())


def Rk(k: int, norm: str) -> Block:
    """Residual block, two 3×3 convolutions with k filters and reflection padding: (B, H, W, k) → (B, H, W, k)."""
    branch = _chain(
        ReflectionPadding2D(1),
        _convolution(keras.layers.Conv2D, k, 3),
        normalization(norm),
        _relu(),
        ReflectionPadding2D(1),
        _convolution(keras.layers.Conv2D, k, 3),
        normalization(norm),
    )
    return lambda x: keras.layers.Add()([x, branch(x)])


def uk(k: int, norm: str, upsample: str) -> Block:
    """Doubles height and width, Norm-ReLU, k filters: (B, H, W, ·) → (B, 2·H, 2·W, k).

    `upsample` "transpose" is the paper's fractionally strided 3×3 convolution; "resize" repeats pixels and convolves 3×3, which leaves no
    checkerboard (Odena et al. 2016).
    """
    if upsample == "transpose":
        # Without its first row and column, the "valid" result is PyTorch's padding=1, output_padding=1; "same" would be shifted.
        up = (_convolution(keras.layers.Conv2DTranspose, k, 3, 2), keras.layers.Cropping2D(((1, 0), (1, 0))))
    elif upsample == "resize":
        up = (keras.layers.UpSampling2D(2), ReflectionPadding2D(1), _convolution(keras.layers.Conv2D, k, 3))
    else:
        raise ValueError(f"upsample {upsample!r}: use 'transpose' or 'resize'")
    return _chain(*up, normalization(norm), _relu())


def Ck(k: int, norm: str | None, strides: int = 2) -> Block:
    """4×4 Convolution-Norm-LeakyReLU (slope 0.2) with k filters, symmetric padding of 1; without a norm it has a bias.

    (B, H, W, ·) → (B, H/2, W/2, k) with stride 2, (B, H-1, W-1, k) with stride 1.
    """
    convolution = _convolution(keras.layers.Conv2D, k, 4, strides, bias=norm is None)
    activation = keras.layers.LeakyReLU(negative_slope=0.2)
    return _chain(keras.layers.ZeroPadding2D(1), convolution, *([normalization(norm)] if norm else []), activation)


def patch_logits() -> Block:
    """The discriminator's last layer, a 4×4 convolution to one channel: (B, H, W, ·) → (B, H-1, W-1, 1)."""
    return _chain(keras.layers.ZeroPadding2D(1), _convolution(keras.layers.Conv2D, 1, 4, bias=True))
