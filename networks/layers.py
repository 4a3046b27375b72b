"""The layers of the networks, (B, H, W, channels) each. The number type is that of Keras' dtype policy."""

import functools

import keras
import tensorflow as tf

from networks.convolution import add_shifted_rows, convolve, crop
from system.replicas import own_numbers


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


class Upconvolution(keras.layers.Conv2DTranspose):
    """The fractionally strided convolution, 3×3 or 4×4, that doubles the sides: PyTorch's with padding=1 and, of 3×3, output_padding=1."""

    def call(self, x):
        (batch, height, width), k = tf.unstack(tf.shape(x)[:3]), self.kernel_size[0]
        # It is the gradient of the stride 2 convolution that pads the top and the left; "same" would shift the picture of a 3×3 kernel.
        size = (batch, 2 * height + k - 2, 2 * width + k - 2, self.filters)
        y = crop(tf.nn.conv2d_transpose(x, tf.convert_to_tensor(self.kernel), size, 2, "VALID"), 1, k - 3)
        y = y + tf.convert_to_tensor(self.bias) if self.use_bias else y
        return tf.ensure_shape(y, self.compute_output_shape(x.shape))

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
        y = crop(tf.nn.depth_to_space(four, 2), 1, 1)
        y = y + tf.convert_to_tensor(self.bias) if self.use_bias else y
        return tf.ensure_shape(y, self.compute_output_shape(x.shape))

    compute_output_shape = Upconvolution.compute_output_shape


class InstanceNormalization(keras.layers.Layer):
    """Each picture and channel to mean 0 and variance 1 (biased), then `gamma` · x + `beta` (Ulyanov et al. 2016), learned if `affine`."""

    EPSILON = 1e-5

    def __init__(self, affine: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.affine = affine

    def build(self, shape):
        weight = functools.partial(self.add_weight, shape=(shape[-1],), trainable=self.affine, autocast=False)
        self.gamma, self.beta = weight(initializer="ones", name="gamma"), weight(initializer="zeros", name="beta")

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


class BatchNormalization(keras.layers.BatchNormalization):
    """Each channel to mean 0 and variance 1 over the batch; once trained, of the batches seen. `affine`: see `InstanceNormalization`."""

    def __init__(self, affine: bool = True, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        self.affine = affine

    def build(self, shape):
        super().build(shape)
        self.gamma.trainable = self.beta.trainable = self.affine


class Dropout(keras.layers.Layer):
    """In training half of the values, by chance, become 0, and the others twice what they were (Srivastava et al. 2014).

    `seed()`, two integers, which whoever trains the network gives to the layer, and the number of a picture in its batch decide which: so a
    step that is made again, after a stop or on more replicas, drops the same. Keras' own layer counts the times that it is called.
    Without one nothing is dropped.
    """

    seed = None

    def call(self, x, training=None):
        if not training or self.seed is None:
            return x
        # All integers, half of them negative, by a named algorithm: XLA would choose another one, and makes other fractions by the same.
        draw = functools.partial(tf.random.stateless_uniform, dtype=tf.int32, minval=None, maxval=None, alg="philox")
        seeds = [tf.random.fold_in(self.seed(), number, "philox") for number in tf.unstack(own_numbers(x.shape[0]))]
        kept = tf.stack([draw(tf.shape(x)[1:], seed) < 0 for seed in seeds])
        return tf.where(kept, 2 * x, tf.zeros_like(x))

    def compute_output_shape(self, shape):
        return shape
