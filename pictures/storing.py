"""What records hold of pictures: JPEG or PNG files that TensorFlow decodes as they are meant, mostly the pictures' own.

A picture that TensorFlow decodes as it is (an upright 8-bit JPEG or PNG, grey or RGB) is stored untouched. Any other becomes one: a JPEG
of quality 95 with all of its colours (4:4:4) what was compressed with loss before, and a PNG all else. `max_size` is what a longer short
side is shrunk to, pixels; 0: never.
"""

import numpy as np
import tensorflow as tf

from pictures import cutouts, damage, images, opening


def stored(data: bytes, max_size: int) -> tuple[bytes, str | None]:
    """Returns the file to store for a picture's, and what is wrong with it, if anything is. Raises `PictureError`.

    What is stored untouched is decoded once as a check.
    """
    shrink = max_size and min(images.size(data)) > max_size
    plain, jpeg = images.is_plain(data) and not shrink, data.startswith(opening.JPEG)
    decodes, problem = check(data) if plain or jpeg else (False, None)
    if plain and jpeg and not (decodes or problem) and (ended := opening.with_end(data)):
        data = ended
        decodes, problem = check(data)
    if plain and decodes:
        return data, problem
    return _anew(*images.decode_with_alpha(data), max_size, opening.is_lossy(data)), problem


def halves(data: bytes, max_size: int) -> tuple[bytes, bytes, str | None]:
    """As `stored`, for the left half and the right half of a picture whose width is even."""
    problem = check(data)[1] if data.startswith(opening.JPEG) else None
    colours, alpha = images.decode_with_alpha(data)
    middle = colours.shape[1] // 2
    parts = [(colours[:, side], None if alpha is None else alpha[:, side]) for side in (slice(middle), slice(middle, None))]
    left, right = (_anew(*part, max_size, opening.is_lossy(data)) for part in parts)
    return left, right, problem


def _anew(colours: np.ndarray, alpha: np.ndarray | None, max_size: int, lossy: bool) -> bytes:
    height, width = colours.shape[:2]
    shrink = max_size and min(height, width) > max_size
    size = images.with_short_side(height, width, max_size) if shrink else (height, width)
    picture, _ = cutouts.resize(colours, alpha, *size)  # as networks see it in use
    return images.encode(picture, ".jpg" if lossy else ".png")


def check(data: bytes) -> tuple[bool, str | None]:
    """Tells whether TensorFlow decodes a JPEG or PNG without a word, and what is wrong with it, if that is known."""
    try:
        if data.startswith(opening.JPEG):
            said = damage.said(data)  # which it would print each time that training reads the picture
            return not said, said or damage.jump(data)
        tf.io.decode_image(data, channels=3, expand_animations=False)
        return True, None
    except tf.errors.InvalidArgumentError:  # damaged, or a kind that only Pillow reads
        return False, None
