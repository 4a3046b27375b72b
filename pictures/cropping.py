"""Squares cut from pictures, as networks see them while they train: in TensorFlow, part of the input pipeline."""

import tensorflow as tf

MOST = 1 << 24  # pixels that a picture is resized to; one that would have more, of 6000×1 say, takes gigabytes
_SIZES = [tf.TensorSpec((2,), tf.int32)] * 2 + [tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.int64)]


@tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8), *_SIZES], autograph=False)  # traced once for all readers
def resized_square(picture: tf.Tensor, size: tf.Tensor, begin: tf.Tensor, side: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    """The square of `side` pixels at `begin` (2,) of a picture, uint8 (H, W, 3), that is resized to `size` (2,); float32 (side, side, 3).

    Where that would be more than `most` pixels, only those are computed that are in the square.
    """

    def of_whole():
        resized = tf.image.resize(picture, size, "bicubic", antialias=True)
        return tf.slice(resized, tf.pad(begin, [[0, 1]]), [side, side, 3])

    def alone():
        own, start = tf.cast(tf.shape(picture)[:2], tf.float64), tf.cast(begin, tf.float64)
        scale = tf.cast(size, tf.float64) / own
        margin = 4 / tf.minimum(scale, 1)  # pixels that the interpolation looks at, and two more
        first = tf.maximum(tf.floor(start / scale - margin), 0)
        last = tf.minimum(tf.math.ceil((start + tf.cast(side, tf.float64)) / scale + margin), own)
        (top, left), (bottom, right) = tf.unstack(tf.cast(first, tf.int32)), tf.unstack(tf.cast(last, tf.int32))
        return tf.raw_ops.ScaleAndTranslate(
            images=picture[tf.newaxis, top:bottom, left:right],
            size=[side, side],
            scale=tf.cast(scale, tf.float32),
            translation=tf.cast(first * scale - start, tf.float32),
            kernel_type="keyscubic",
        )[0]

    return tf.cond(tf.reduce_prod(tf.cast(size, tf.int64)) > most, alone, of_whole)
