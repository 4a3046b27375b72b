"""The blocks of the paper's networks as Keras layers, named as in its appendix (section 7.2).

Each function returns a callable of one tensor, (B, H, W, channels), that works on symbolic and real tensors alike. The number type is
that of Keras' dtype policy.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

Block = Callable[[tf.Tensor], tf.Tensor]


def convolve(x, kernel, strides: int = 1, pad: int = 0, mode: str = "CONSTANT", training: bool | None = None) -> tf.Tensor:
    """Pads each side by `pad` pixels, as `enlarge` does, and convolves: (B, H, W, C) → (B, H', W', filters).

    The gradients are those of TensorFlow, to rounding, for less time and memory: the padded picture, a copy, is made again in the backward
    pass instead of being kept, and gradients of kernels are `kernel_gradient`s. Convolutions pad nothing themselves, because oneDNN's
    kernels for CPUs do not take padding in 16 bits backwards, and what steps in for them takes thirty times as long.
    With `training` False gradients are TensorFlow's own, as a model file cannot hold others.
    """

    def forward(x, kernel):
        return tf.nn.conv2d(enlarge(x, pad, mode), kernel, strides, "VALID")

    def with_gradient(x, kernel):
        def gradient(dy):
            with tf.control_dependencies([dy]):  # or TensorFlow finds that it is the same, and keeps it
                enlarged = enlarge(tf.identity(x), pad, mode)
            d_enlarged = tf.nn.conv2d_transpose(dy, kernel, tf.shape(enlarged), strides, "VALID")
            return enlarge_gradient(d_enlarged, pad, mode), kernel_gradient(enlarged, dy, kernel, strides)

        return forward(x, kernel), gradient

    return forward(x, kernel) if training is False else tf.custom_gradient(with_gradient)(x, kernel)


def enlarge(x: tf.Tensor, pad: int, mode: str) -> tf.Tensor:
    """(B, H, W, C) → (B, H + 2·pad, W + 2·pad, C): zeros around it ("CONSTANT"), its mirror image ("REFLECT") or its edge ("EDGE")."""
    if mode == "CONSTANT":
        return tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else x
    for axis in (1, 2):  # picking takes a third of the time of tf.pad's mirror on a CPU
        size = x.shape[axis] or tf.shape(x)[axis]
        index = tf.range(-pad, size + pad)
        index = size - 1 - tf.abs(size - 1 - tf.abs(index)) if mode == "REFLECT" else tf.clip_by_value(index, 0, size - 1)
        x = tf.gather(x, index, axis=axis)
    return x


def enlarge_gradient(dy: tf.Tensor, pad: int, mode: str) -> tf.Tensor:
    """The gradient of `enlarge`. "EDGE" is for a `pad` of 1, where it is the mirror image that repeats the border."""
    if mode == "CONSTANT":
        return crop(dy, pad, pad) if pad else dy
    mirror = "REFLECT" if mode == "REFLECT" else "SYMMETRIC"
    return tf.raw_ops.MirrorPadGrad(input=dy, paddings=[[0, 0], [pad, pad], [pad, pad], [0, 0]], mode=mirror)


def crop(x: tf.Tensor, before: int, after: int) -> tf.Tensor:
    """Cuts off so many rows and columns. Brackets would do the same, but with a gradient that takes ten times as long."""
    batch, height, width, channels = tf.unstack(tf.shape(x))
    return tf.slice(x, (0, before, before, 0), (batch, height - before - after, width - before - after, channels))


def kernel_gradient(x: tf.Tensor, dy: tf.Tensor, kernel: tf.Tensor, strides: int) -> tf.Tensor:
    """The gradient of the kernel of a convolution without padding, whose input was `x`.

    On CPUs it is computed as `products`, with stride 2 of pictures in which 2×2 pixels have become one with four times the channels.
    """
    rows, columns, channels, filters = kernel.shape
    if channels * strides**2 < 16 or rows % strides or columns % strides or tf.config.list_physical_devices("GPU"):
        strides = [1, strides, strides, 1]
        return tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=strides, padding="VALID")
    if strides == 1:
        return products(x, dy, rows, columns)
    batch, height, width, _ = tf.unstack(tf.shape(dy))
    seen = tf.slice(x, (0, 0, 0, 0), (batch, strides * (height - 1) + rows, strides * (width - 1) + columns, channels))
    gathered = products(tf.nn.space_to_depth(seen, strides), dy, rows // strides, columns // strides)
    gathered = tf.reshape(gathered, (rows // strides, columns // strides, strides, strides, channels, filters))
    return tf.reshape(tf.transpose(gathered, (0, 2, 1, 3, 4, 5)), kernel.shape)


def products(x: tf.Tensor, dy: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """The gradient of a kernel of rows × columns with stride 1: for each of its pixels, the part of `x` below it, times `dy`.

    In bfloat16 these matrix products take four fifths of the time of oneDNN's own kernel for this gradient.
    """
    channels, filters = x.shape[-1], dy.shape[-1]
    batch, height, width, _ = tf.unstack(tf.shape(dy))
    all_rows = tf.shape(x)[1]
    dy = tf.reshape(dy, (-1, filters))
    # Moved to each column once: of one picture, slices of rows are no copies.
    moved = [tf.slice(x, (0, 0, j, 0), (batch, all_rows, width, channels)) for j in range(columns)]
    if x.shape[0] == 1:
        below = [tf.slice(m[0], (i, 0, 0), (height, width, channels)) for i in range(rows) for m in moved]
    else:
        below = [tf.slice(m, (0, i, 0, 0), (batch, height, width, channels)) for i in range(rows) for m in moved]
    gathered = tf.stack([tf.matmul(tf.reshape(b, (-1, channels)), dy, transpose_a=True) for b in below])
    return tf.reshape(gathered, (rows, columns, channels, filters))


class Convolution(keras.layers.Conv2D):
    """A convolution that pads each side by `pad` pixels, zeros or reflection; "same" with stride 2 pads the right and the bottom only."""

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, pad: int = 0, reflect: bool = False, **kwargs):
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.pad, self.reflect = pad, reflect

    def call(self, x, training=None):
        y = self._convolve(x, tf.convert_to_tensor(self.kernel), training)
        return y + tf.convert_to_tensor(self.bias) if self.use_bias else y

    def _convolve(self, x, kernel, training):
        return convolve(x, kernel, self.strides[0], self.pad, "REFLECT" if self.reflect else "CONSTANT", training)

    def compute_output_shape(self, shape):
        batch, *sides, channels = shape
        return super().compute_output_shape((batch, *(n and n + 2 * self.pad for n in sides), channels))

    def get_config(self):
        return {**super().get_config(), "pad": self.pad, "reflect": self.reflect}


class FewFilters(Convolution):
    """A `Convolution` of stride 1 to few filters: the same to rounding, and several times as fast on a CPU.

    One row of the kernel at a time would do: convolve 1×k, shift, add. All rows at once are one 1×k convolution to k times the filters, a
    matrix product wide enough for the hardware.
    """

    def _convolve(self, x, kernel, training):
        k, width, channels, filters = kernel.shape
        rows = tf.reshape(tf.transpose(kernel, (1, 2, 0, 3)), (1, width, channels, k * filters))
        return add_shifted_rows(super()._convolve(x, rows, training), k, training)


def add_shifted_rows(x: tf.Tensor, k: int, training: bool | None) -> tf.Tensor:
    """(B, H, W, k · n) → (B, H - k + 1, W, n): the sum of k groups of channels, the i-th moved up by i rows."""

    def add(x):
        height = tf.shape(x)[1] - k + 1
        groups = [group[:, i : i + height] for i, group in enumerate(tf.split(x, k, axis=-1))]
        return tf.reduce_sum(tf.stack(groups), axis=0)

    def gradient(dy):  # TensorFlow's own writes a picture of zeros for each group, and adds them in the order in which threads are done
        return tf.concat([tf.pad(dy, ((0, 0), (i, k - 1 - i), (0, 0), (0, 0))) for i in range(k)], axis=-1)

    return add(x) if training is False else tf.custom_gradient(lambda x: (add(x), gradient))(x)


class Upconvolution(keras.layers.Conv2DTranspose):
    """The fractionally strided 3×3 convolution that doubles height and width: PyTorch's with padding=1 and output_padding=1."""

    def call(self, x):
        batch, height, width = tf.unstack(tf.shape(x)[:3])
        # It is the gradient of the stride 2 convolution that pads the top and the left; "same" would shift the picture.
        y = tf.nn.conv2d_transpose(x, tf.convert_to_tensor(self.kernel), (batch, 2 * height + 1, 2 * width + 1, self.filters), 2, "VALID")
        return tf.ensure_shape(crop(y, 1, 0), self.compute_output_shape(x.shape))

    def compute_output_shape(self, shape):
        batch, height, width, _ = shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)


class ResizeConvolution(keras.layers.Conv2D):
    """Nearest neighbour ×2, then a 3×3 convolution that pads by reflection (Odena et al. 2016): (B, H, W, ·) → (B, 2·H, 2·W, filters).

    Each pixel becomes four, to which 2×2 pixels contribute: instead of repeated pixels times single weights, single pixels times sums
    of weights, 16 products in place of 36. So it is one 2×2 convolution to four groups of filters, whose pixels then take turns.
    """

    # Which rows of the 3×3 kernel make up the 2×2 one of the odd rows of the result, and that of the even ones; columns likewise.
    SUMS = (((1, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 1)))

    def call(self, x, training=None):
        sums = tf.constant(self.SUMS, x.dtype)
        kernel = tf.einsum("ayr,bxs,rscf->yxcabf", sums, sums, tf.convert_to_tensor(self.kernel))
        # A pixel beyond the edge, which repeats it, is what the reflected border of the enlarged picture is made of.
        four = convolve(x, tf.reshape(kernel, (2, 2, x.shape[-1], 4 * self.filters)), 1, 1, "EDGE", training)
        return tf.ensure_shape(crop(tf.nn.depth_to_space(four, 2), 1, 1), self.compute_output_shape(x.shape))

    compute_output_shape = Upconvolution.compute_output_shape


class InstanceNormalization(keras.layers.Layer):
    """Each picture and channel to mean 0 and variance 1 (biased), then `gamma` · x + `beta`, both learned (Ulyanov et al. 2016)."""

    EPSILON = 1e-5

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", autocast=False, name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", autocast=False, name="beta")

    def call(self, x):
        batch = x.shape[0]
        if x.dtype == tf.float64 or (batch or 1) > 1:
            return self.normalize(x, *self.statistics(x, (1, 2)))
        if batch == 1:
            return self._fused(x, self.gamma.value, self.beta.value)
        # How many pictures there are is not known yet, one most likely: each becomes channels of one picture.
        batch, height, width, channels = tf.unstack(tf.shape(x))
        side_by_side = tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, height, width, batch * channels))
        y = self._fused(side_by_side, tf.tile(self.gamma.value, [batch]), tf.tile(self.beta.value, [batch]))
        y = tf.transpose(tf.reshape(y, (height, width, batch, channels)), (2, 0, 1, 3))
        return tf.ensure_shape(y, x.shape)

    def statistics(self, x, axes: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and variance over some axes, which stay, of length 1."""
        return tf.nn.moments(tf.cast(x, self.gamma.dtype), axes, keepdims=True)  # a sum over a picture needs more than 16 bits

    def normalize(self, x, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        """Takes this mean and variance to 0 and 1, and these to the layer's own."""
        wide = tf.cast(x, self.gamma.dtype)
        return tf.cast(tf.nn.batch_normalization(wide, mean, variance, self.beta.value, self.gamma.value, self.EPSILON), x.dtype)

    def _fused(self, x, gamma, beta):
        """Batch normalisation of a batch of one is instance normalisation, and has one kernel for all of it on every device."""
        return tf.raw_ops.FusedBatchNormV3(x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=self.EPSILON).y

    def compute_output_shape(self, shape):
        return shape


def normalization(norm: str) -> keras.layers.Layer:
    """Instance normalisation (each picture and channel by itself) or batch normalisation, with learned scale and offset."""
    if norm not in ("instance", "batch"):
        raise ValueError(f"norm {norm!r}: use 'instance' or 'batch'")
    return InstanceNormalization() if norm == "instance" else keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def _weights(bias: bool = False) -> dict:
    # A fresh initializer for each layer: a shared one would give equal kernels to layers of equal shape.
    return {"use_bias": bias, "kernel_initializer": keras.initializers.RandomNormal(stddev=0.02)}


def _chain(*layers: Block) -> Block:
    return lambda x: functools.reduce(lambda y, layer: layer(y), layers, x)


def _full_precision(activation: str) -> Block:
    # The last of a network: losses are sums over many pixels, and pictures have 256 levels, one more than bfloat16 tells apart.
    return keras.layers.Activation(activation, dtype=keras.config.floatx())


def c7s1_k(k: int, norm: str) -> Block:
    """7×7 Convolution-Norm-ReLU with k filters and stride 1, reflection padding: (B, H, W, ·) → (B, H, W, k)."""
    return _chain(Convolution(k, 7, pad=3, reflect=True, **_weights()), normalization(norm), keras.layers.ReLU())


def c7s1_3() -> Block:
    """The generator's last layer, 7×7 Convolution-tanh with 3 filters and a bias: (B, H, W, ·) → (B, H, W, 3) in [-1, 1]."""
    return _chain(FewFilters(3, 7, pad=3, reflect=True, **_weights(bias=True)), _full_precision("tanh"))


def dk(k: int, norm: str) -> Block:
    """3×3 Convolution-Norm-ReLU with k filters and stride 2: (B, H, W, ·) → (B, H/2, W/2, k) for even H and W."""
    return _chain(Convolution(k, 3, 2, pad=1, **_weights()), normalization(norm), keras.layers.ReLU())


def Rk(k: int, norm: str) -> Block:
    """Residual block, two 3×3 convolutions with k filters and reflection padding: (B, H, W, k) → (B, H, W, k)."""
    first = _chain(Convolution(k, 3, pad=1, reflect=True, **_weights()), normalization(norm), keras.layers.ReLU())
    second = _chain(Convolution(k, 3, pad=1, reflect=True, **_weights()), normalization(norm))
    return lambda x: keras.layers.Add()([x, second(first(x))])


def uk(k: int, norm: str, upsample: str) -> Block:
    """Doubles height and width, Norm-ReLU, k filters: (B, H, W, ·) → (B, 2·H, 2·W, k).

    By an `Upconvolution` ("transpose", the paper's), or a `ResizeConvolution` ("resize"), which leaves no checkerboard.
    """
    if upsample not in ("transpose", "resize"):
        raise ValueError(f"upsample {upsample!r}: use 'transpose' or 'resize'")
    up = Upconvolution(k, 3, 2, **_weights()) if upsample == "transpose" else ResizeConvolution(k, 3, **_weights())
    return _chain(up, normalization(norm), keras.layers.ReLU())


def Ck(k: int, norm: str | None, strides: int = 2) -> Block:
    """4×4 Convolution-Norm-LeakyReLU (slope 0.2) with k filters, symmetric padding of 1; without a norm it has a bias.

    (B, H, W, ·) → (B, H/2, W/2, k) with stride 2, (B, H-1, W-1, k) with stride 1.
    """
    convolution = Convolution(k, 4, strides, pad=1, **_weights(bias=norm is None))
    return _chain(convolution, *([normalization(norm)] if norm else []), keras.layers.LeakyReLU(negative_slope=0.2))


def patch_logits() -> Block:
    """The discriminator's last layer, a 4×4 convolution to one channel: (B, H, W, ·) → (B, H-1, W-1, 1)."""
    return _chain(FewFilters(1, 4, pad=1, **_weights(bias=True)), _full_precision("linear"))
