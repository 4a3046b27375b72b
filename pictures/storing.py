"""What records hold of pictures: JPEG or PNG files that TensorFlow decodes as they are meant, mostly the pictures' own.

A picture that TensorFlow decodes as it is (an upright 8-bit JPEG or PNG, grey or RGB) is stored untouched. Any other becomes one: a JPEG
of quality 95 with all of its colours (4:4:4) what was compressed with loss before, and a PNG all else. `max_size` is what a longer short
side is shrunk to, pixels; 0: never.
"""

from collections.abc import Callable

import numpy as np

from pictures import cutouts, damage, derive, images, opening

Store = Callable[[bytes, str], tuple[tuple[bytes, ...], str | None]]  # a picture's file and name → files to store, and what is wrong


def whole(max_size: int) -> Store:
    """Stores a picture. All of these raise `PictureError` if it cannot be read."""

    def store(data: bytes, name: str) -> tuple[tuple[bytes, ...], str | None]:
        picture, problem = _stored(data, max_size)
        return (picture,), problem

    return store


def halves(max_size: int, swapped: bool) -> Store:
    """Stores the left half of a picture and the right one, of one width, or the right one first if they are `swapped`."""

    def store(data: bytes, name: str) -> tuple[tuple[bytes, ...], str | None]:
        problem = check(data)[1] if data.startswith(opening.JPEG) else None
        colours, alpha = images.decode_with_alpha(data)
        sides = [slice(colours.shape[1] // 2), slice(colours.shape[1] // 2, None)]
        parts = [(colours[:, side], None if alpha is None else alpha[:, side]) for side in (sides[::-1] if swapped else sides)]
        return tuple(_anew(*part, max_size, opening.is_lossy(data)) for part in parts), problem

    return store


def with_derived(kind: str, max_size: int) -> Store:
    """Stores what `derive` makes of a picture as it is stored, without loss, and the picture."""

    def store(data: bytes, name: str) -> tuple[tuple[bytes, ...], str | None]:
        picture, problem = _stored(data, max_size)
        return (images.encode(derive.KINDS[kind](images.decode(picture), name)), picture), problem

    return store


def _stored(data: bytes, max_size: int) -> tuple[bytes, str | None]:
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


def _anew(colours: np.ndarray, alpha: np.ndarray | None, max_size: int, lossy: bool) -> bytes:
    height, width = colours.shape[:2]
    shrink = max_size and min(height, width) > max_size
    size = images.with_short_side(height, width, max_size) if shrink else (height, width)
    picture, _ = cutouts.resize(colours, alpha, *size)  # as networks see it in use
    return images.encode(picture, ".jpg" if lossy else ".png")


def check(data: bytes) -> tuple[bool, str | None]:
    """Tells whether TensorFlow decodes a JPEG or PNG without a word, and what is wrong with it, if that is known."""
    import tensorflow as tf

    try:
        if data.startswith(opening.JPEG):
            said = damage.said(data)  # which it would print each time that training reads the picture
            return not said, said or damage.jump(data)
        tf.io.decode_image(data, channels=3, expand_animations=False)
        return True, None
    except tf.errors.InvalidArgumentError:  # damaged, or a kind that only Pillow reads
        return False, None
