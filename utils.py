"""Value ranges, and the pool of generated pictures that the discriminators learn from (section 4 of the paper)."""

import tensorflow as tf

from system.replicas import gather, own_rows, state


def convert2float(picture: tf.Tensor) -> tf.Tensor:
    """uint8 in 0 … 255 → float32 in [-1, 1], any shape."""
    return tf.cast(picture, tf.float32) / 127.5 - 1


def convert2int(picture: tf.Tensor) -> tf.Tensor:
    """Float in [-1, 1] → uint8 in 0 … 255, rounded; what lies outside is clipped (a plain cast would wrap round)."""
    return tf.saturate_cast(tf.round((picture + 1) * 127.5), tf.uint8)


class ImagePool(tf.Module):
    """A history of generated pictures (Shrivastava et al. 2017), kept in variables, so that it is part of the step and of the checkpoint.

    `query` treats the pictures of a batch one after another: until the pool is full each goes in and comes back; then, with probability ½,
    it takes the place of a random one, which comes back instead. Size 0 gives the pictures back as they are.
    """

    def __init__(self, size: int, picture_shape: tuple[int, int, int], seed: int = 0, dtype: tf.DType = tf.float32, name: str = "pool"):
        super().__init__(name=name)
        self.size, self.seed = size, seed
        self.pictures = state(tf.zeros((size, *picture_shape), dtype), "pictures")
        self.count = state(tf.constant(0), "count")

    def query(self, pictures: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """(B, H, W, 3) → (B, H, W, 3). What happens is a function of the seed and `step`, an integer scalar; B must be static.

        Each replica has the whole pool, puts all replicas' pictures through it, and returns those of its own rows.
        """
        if self.size == 0:
            return pictures
        return own_rows(tf.stack([self._query_one(picture, step, i) for i, picture in enumerate(tf.unstack(gather(pictures)))]))

    def _query_one(self, picture: tf.Tensor, step: tf.Tensor, i: int) -> tf.Tensor:
        # Integers by a named algorithm, because XLA chooses another one, and makes other floats of equal bits.
        seed = tf.random.fold_in(tf.random.fold_in([self.seed, 0], step, "philox"), i, "philox")
        draw = tf.random.stateless_uniform([], seed, maxval=2 * self.size, dtype=tf.int32, alg="philox")
        filling, swap = self.count < self.size, draw % 2 == 1
        slot = tf.where(filling, self.count, draw // 2)
        # Raw operations: a replica's own variable has no others.
        pool = self.pictures.handle
        old = tf.ensure_shape(tf.raw_ops.ResourceGather(resource=pool, indices=slot, dtype=picture.dtype), picture.shape)
        tf.raw_ops.ResourceScatterNdUpdate(ref=pool, indices=[[slot]], updates=[tf.where(filling | swap, picture, old)])
        self.count.assign(tf.minimum(self.count + 1, self.size))
        return tf.where(filling | ~swap, picture, old)
