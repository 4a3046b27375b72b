"""The many kinds of TIFF: numbers that Pillow takes for others are put right, what it reads wrongly or not at all is named."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2

PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _PALETTE, _NUMBERS = 254, 258, 259, 262, 277, 284, 320, 339  # tags
_RAW, _WHITE_IS_ZERO, _APART, _SIGNED, _FLOAT = 1, 0, 2, 2, 3  # values of these
_STRUCTURE = {*range(254, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, *range(320, 326), 338, 339, 347, *range(512, 533), 34675}
_KINDS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "LAB", 10: "LAB"}
_KINDS |= {32803: "camera raw", 34892: "camera raw", 32844: "LogL", 32845: "LogLuv"}
_KINDS_OF_NUMBERS = {_SIGNED: " signed", _FLOAT: " floating point", 5: " complex", 6: " complex"}


def without_metadata(data: bytes) -> bytes:
    """A TIFF of which only those tags are left that say how its first picture is stored, turned and coloured; of BigTIFFs all."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        tags = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
        kept = [tag for tag in tags if struct.unpack_from(f"{order}H", tag)[0] in _STRUCTURE]
    except struct.error:  # it is damaged as a whole
        return data
    if data[2:4].strip(b"\0") != b"*":
        return data
    table = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:start] + table + data[start + len(table) :]


def kind(tags: Any) -> str:
    """Says in words what the first picture of a TIFF is made of."""
    bits, numbers = (tags.get(tag, 1) for tag in (_BITS, _NUMBERS))
    bits, numbers = (value[0] if isinstance(value, tuple) and value else value for value in (bits, numbers))
    colours = _KINDS.get(tags.get(_PHOTOMETRIC), "of no known colours")
    compression = tags.get(_COMPRESSION, _RAW)
    words = f"{tags.get(_SAMPLES, 1)} × {bits} bit{_KINDS_OF_NUMBERS.get(numbers, '')}, {colours}"
    words += ", planes apart" if tags.get(_PLANES) == _APART else ""
    return words + (f", compressed: {COMPRESSION_INFO.get(compression, compression)}" if compression != _RAW else "")


def unread(data: bytes) -> str:
    """Says of a TIFF that Pillow does not know why that is."""
    try:
        file = io.BytesIO(data)
        tags = ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" else 8))
        file.seek(tags.next)
        tags.load(file)
        what = f" ({kind(tags)})" if _SAMPLES in tags or _BITS in tags else ""
    except Exception:  # as damaged headers raise
        what = ""
    return f"a TIFF of a kind that is not read{what}; save it as a PNG"


def is_rare(picture: Image.Image) -> bool:
    """Tells whether a TIFF is compressed as only few libraries can: by the JPEG of old, LZMA or WebP."""
    return picture.tag_v2.get(_COMPRESSION) in (6, 34925, 50001)


def skip_thumbnails(picture: Image.Image) -> None:
    """Goes to the first page that is no smaller version of another, if there is one."""
    page = 0
    try:
        while picture.tag_v2.get(_SUBFILE_TYPE, 0) & 1:
            picture.seek(page := page + 1)
    except Exception:  # there is none, or it is damaged
        picture.seek(0)


def mend_palette(picture: Image.Image) -> None:
    """Old programs write a palette in levels of 8 bit where 16 are meant, which Pillow takes at their word: nearly black."""
    levels = picture.tag_v2.get(_PALETTE, ())
    if levels and max(levels) < 256:
        picture.putpalette(np.array(levels, np.uint8).reshape(3, -1).T.tobytes())


def misread(picture: Image.Image) -> str | None:
    """Says of a TIFF that Pillow reads, though wrongly, what it is; None of others."""
    tags = picture.tag_v2
    raw, apart = tags.get(_COMPRESSION, _RAW) == _RAW, tags.get(_PLANES) == _APART
    deep_planes = apart and raw and tags.get(_BITS, (1,))[0] > 8
    grey_planes = apart and not raw and picture.mode in ("LA", "La", "PA")
    negative = picture.mode == "F" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if deep_planes or grey_planes or negative:
        return f"a TIFF of a kind that is not read ({kind(tags)}); save it as a PNG"
    return None


def grey(picture: Image.Image) -> tuple[np.ndarray, float | None]:
    """The numbers of a decoded grey TIFF as they are stored, (H, W), and which means white; None if that shows by the numbers only."""
    tags, numbers = picture.tag_v2, np.asarray(picture)
    bits, signed = tags.get(_BITS, (1,))[0], tags.get(_NUMBERS, (1,))[0] == _SIGNED
    if picture.mode in ("I", "F") and tags.prefix == b"MM" and tags.get(_COMPRESSION, _RAW) != _RAW:
        numbers = (numbers.astype(np.int16) if bits == 16 else numbers).byteswap()  # Pillow turns the bytes that libtiff has turned
    if picture.mode == "F":
        return numbers, None
    if bits == 8 and signed:
        numbers = numbers.view(np.int8)
    if bits == 32 and not signed:
        numbers = numbers.view(np.uint32)
    white = 2 ** (bits - signed) - 1
    if bits == 32 and numbers.max() <= 65535:  # how Pillow itself has long stored 16 bit
        white = 65535
    return white - numbers.astype(np.float64) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else numbers, white


def is_signed(picture: Image.Image) -> bool:
    """Tells whether a TIFF holds numbers with a sign, which Pillow passes over in 8 bit."""
    return picture.tag_v2.get(_NUMBERS, (1,))[0] == _SIGNED
