"""Convolutions and their gradients, as they are fastest on the devices at hand."""

import tensorflow as tf


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


def add_shifted_rows(x: tf.Tensor, k: int, training: bool | None) -> tf.Tensor:
    """(B, H, W, k · n) → (B, H - k + 1, W, n): the sum of k groups of channels, the i-th moved up by i rows."""

    def add(x):
        height = tf.shape(x)[1] - k + 1
        groups = [group[:, i : i + height] for i, group in enumerate(tf.split(x, k, axis=-1))]
        return tf.reduce_sum(tf.stack(groups), axis=0)

    def gradient(dy):  # TensorFlow's own writes a picture of zeros for each group, and adds them in the order in which threads are done
        return tf.concat([tf.pad(dy, ((0, 0), (i, k - 1 - i), (0, 0), (0, 0))) for i in range(k)], axis=-1)

    return add(x) if training is False else tf.custom_gradient(lambda x: (add(x), gradient))(x)
