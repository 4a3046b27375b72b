"""Picture files → pixels in a graph of TensorFlow: the same that `images.decode` gives, of those kinds that TensorFlow's decoders read."""

import functools

import tensorflow as tf

Picture = tuple[tf.Tensor, tf.Tensor]  # colours, uint8 (H, W, 3), and alpha, uint8 (H, W, 1) or, where all is seen, (1, 1, 1)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)  # traced once, whoever calls it
def decode(data: tf.Tensor) -> Picture:
    """A file, JPEG, PNG, GIF (its first frame) or BMP of 8, 24 or 32 bit, as a string → colours and alpha.

    EXIF orientations and colour profiles are not looked at. Raises TensorFlow's `InvalidArgumentError` for a file that it cannot read.
    """
    png, bmp = _begins(data, b"\x89PNG"), _begins(data, b"BM")
    bits = tf.where(png, _number(data, 24, tf.uint8), _number(data, 28, tf.uint16))
    kinds = [
        (_begins(data, b"\xff\xd8\xff"), _jpeg),
        (png & (bits == 16), _png_of_16_bits),
        (png, _png),
        (_begins(data, b"GIF8"), _gif),
        (bmp & (bits == 8), _bmp_with_palette),
        (bmp & (bits == 32), _bmp_of_32_bits),
        (True, _other),
    ]
    found = tf.argmax(tf.cast([is_one for is_one, _ in kinds], tf.int32), output_type=tf.int32)
    return tf.switch_case(found, [functools.partial(function, data) for _, function in kinds])


def jpeg(data: tf.Tensor) -> tf.Tensor:
    """A JPEG → its colours, uint8 (H, W, 3). TensorFlow's default is a fast transform, which takes a level or two from red and blue."""
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def has_alpha(alpha: tf.Tensor) -> tf.Tensor:
    """Tells whether a `Picture` is transparent anywhere."""
    return tf.reduce_any(alpha < 255)


def continued(colours: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """A `Picture` as networks see it, uint8 (H, W, 3): as `cutouts.resize`, which see, has it at the picture's own size."""
    seen, far = alpha[..., 0] > 0, tf.constant(float("inf"))
    here = tf.stack(tf.meshgrid(*(tf.range(side) for side in tf.unstack(tf.shape(colours)[:2])), indexing="ij"))

    def nearer(step, found, distance):
        for shift in ([y * step, x * step] for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x):
            known, other = tf.math.is_finite(tf.roll(distance, shift, (0, 1))), tf.roll(found, shift, (1, 2))
            apart = tf.where(known, tf.reduce_sum(tf.square(tf.cast(other - here, tf.float32)), 0), far)
            closer = apart < distance
            found, distance = tf.where(closer, other, found), tf.where(closer, apart, distance)
        return step // 2, found, distance

    def by_nearest():
        largest = tf.reduce_max(tf.shape(colours)) - 1
        half = tf.reduce_max(tf.where(largest >= [1 << bit for bit in range(30)], [1 << bit for bit in range(30)], 0))
        _, found, _ = tf.while_loop(lambda step, *_: step > 0, nearer, (half, here, tf.where(seen, 0.0, far)))
        return tf.where(tf.reduce_any(seen), tf.gather_nd(colours, tf.transpose(found, (1, 2, 0))), tf.constant(255, tf.uint8))

    return tf.cond(has_alpha(alpha), by_nearest, lambda: colours)


def _opaque() -> tf.Tensor:
    return tf.fill((1, 1, 1), tf.constant(255, tf.uint8))


def _begins(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(magic)) == magic


def _number(data: tf.Tensor, offset: int, kind: tf.DType) -> tf.Tensor:
    """The integer at an `offset` of at most 66, in the byte order of GIF and BMP, int32 (); 0 after the end."""
    return _numbers(data, offset, kind, 1)[0]


def _numbers(data: tf.Tensor, offset: int, kind: tf.DType, count: int) -> tf.Tensor:
    """So many of them, int32 (count,), up to byte 70."""
    header = tf.strings.join([tf.strings.substr(data, 0, 70), bytes(70)])
    return tf.cast(tf.io.decode_raw(tf.strings.substr(header, offset, count * kind.size), kind), tf.int32)


def _part(data: tf.Tensor, begin: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """So many bytes of a string, as far as there are so many: else TensorFlow's error would quote all of it."""
    return tf.strings.substr(data, tf.clip_by_value(begin, 0, tf.strings.length(data)), tf.maximum(size, 0))


def _jpeg(data: tf.Tensor) -> Picture:
    return jpeg(data), _opaque()


def _png(data: tf.Tensor) -> Picture:
    picture = tf.io.decode_png(data, channels=4)
    # Of a picture of 1, 2 or 4 bit without alpha TensorFlow says that all of it is 1, 3 or 15.
    none = tf.cast(tf.bitwise.left_shift(1, _number(data, 24, tf.uint8)) - 1, tf.uint8)
    return picture[..., :3], tf.where(tf.reduce_all(picture[..., 3:] == none), tf.constant(255, tf.uint8), picture[..., 3:])


def _png_of_16_bits(data: tf.Tensor) -> Picture:
    deep = tf.cast(tf.io.decode_png(data, channels=4, dtype=tf.uint16), tf.int32)
    grey = _number(data, 25, tf.uint8) == 0  # without alpha; it is rounded, as in `images`
    picture = tf.cast(tf.where(grey, (deep + 128) // 257, deep // 256), tf.uint8)
    return picture[..., :3], picture[..., 3:]


def _gif(data: tf.Tensor) -> Picture:
    """TensorFlow leaves black where nothing is drawn: what stays so with palettes of white only is transparent.

    Of a first frame that does not fill the picture it would show something else than other programs do: that is an error.
    """
    begin = 13 + _palette(_number(data, 10, tf.uint8))
    frame = _first_frame(data, begin)
    descriptor = _part(data, frame, 10)
    place, screen = _numbers(descriptor, 1, tf.uint16, 4), _numbers(data, 6, tf.uint16, 2)
    fills = tf.reduce_all(place[:2] == 0) & tf.reduce_all(place[2:] >= screen)
    words = "a GIF whose first frame does not fill it, which is not read; save it as a PNG"
    with tf.control_dependencies([tf.debugging.Assert(fills | ~_begins(descriptor, b","), [words])]):
        palette = _palette(_number(descriptor, 9, tf.uint8))  # the frame's own
    rest = _part(data, frame + 10 + palette, tf.strings.length(data))
    middle = _part(data, begin, frame + 10 - begin)
    alpha, _ = _other(tf.strings.join([_part(data, 0, 13), _white(begin - 13), middle, _white(palette), rest]))
    return _other(data)[0], alpha[..., :1]


def _palette(flags: tf.Tensor) -> tf.Tensor:
    """How many bytes a GIF's palette has."""
    return tf.where(flags >= 128, tf.bitwise.left_shift(6, flags % 8), 0)


def _white(size: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(b"\xff" * 768, 0, size)


def _first_frame(data: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """Where a GIF's first frame begins: behind blocks of other things, which come in parts, each after its length."""

    def byte(at: tf.Tensor) -> tf.Tensor:
        return _number(_part(data, at, 1), 0, tf.uint8)

    def next_part(at, within):
        return at + tf.where(within, byte(at) + 1, 2), ~within | (byte(at) > 0)

    at, _ = tf.while_loop(lambda at, within: within | (byte(at) == ord("!")), next_part, (begin, tf.constant(False)))
    return at


def _bmp_with_palette(data: tf.Tensor) -> Picture:
    begin = 14 + _number(data, 14, tf.int32)
    table = tf.io.decode_raw(_part(data, begin, _number(data, 10, tf.int32) - begin), tf.uint8)
    colours = tf.reshape(table[: tf.size(table) // 4 * 4], (-1, 4))[:, 2::-1]
    return tf.gather(colours, tf.cast(tf.io.decode_bmp(data)[..., 0], tf.int32)), _opaque()


def _bmp_of_32_bits(data: tf.Tensor) -> Picture:
    """Only the longer headers say where alpha is; else the fourth byte means nothing. TensorFlow does not look where colours are."""
    has_masks, masks = _number(data, 30, tf.int32) == 3, _numbers(data, 54, tf.int32, 4)
    usual = tf.reduce_all(masks[:3] == [0xFF0000, 0xFF00, 0xFF])
    words = "a BMP whose colours are in another order than blue, green, red, which is not read; save it as a PNG"
    with tf.control_dependencies([tf.debugging.Assert(usual | ~has_masks, [words])]):
        picture = tf.io.decode_bmp(data, channels=4)
    is_seen = has_masks & (_number(data, 14, tf.int32) >= 56) & (masks[3] != 0) & tf.reduce_any(picture[..., 3:] > 0)
    return picture[..., :3], tf.where(is_seen, picture[..., 3:], tf.constant(255, tf.uint8))


def _other(data: tf.Tensor) -> Picture:
    return tf.ensure_shape(tf.io.decode_image(data, channels=3, expand_animations=False), (None, None, 3)), _opaque()
