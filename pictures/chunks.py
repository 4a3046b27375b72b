"""The chunks that a PNG consists of."""

import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")  # what a PNG cannot be without
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # first and next x and y


def of(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """The chunks of a PNG: kind, content, and whether the checksum holds. The last may be cut off."""
    at = len(PNG)
    while len(data) >= at + 8:
        length, kind = struct.unpack_from(">I4s", data, at)
        content, checksum = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        holds = zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(checksum, "big") and len(checksum) == 4
        yield kind, content, holds
        if kind == b"IEND":
            break
        following = at + 12 + length
        if not holds and kind not in PIXELS and not data[following + 4 : following + 8].isalpha():  # its length is wrong, too
            following = min((found - 4 for name in (b"PLTE", b"IDAT") if (found := data.find(name, at + 8)) >= 0), default=len(data))
        at = following


def is_deep_or_animated(data: bytes) -> bool:
    """Tells whether a PNG has more than 8 bits, which Pillow does not say of colours, or more than one frame."""
    return data[24] != 8 or any(kind == b"acTL" and content[:4] > b"\0\0\0\1" for kind, content, _ in of(data))


def written(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def inflated(parts: list[bytes]) -> int | None:
    """How many bytes compressed data are; None if they are not whole, by their checksum."""
    stream, size = zlib.decompressobj(), 0
    try:
        for part in parts:
            while part and not stream.eof:
                size += len(stream.decompress(part, 1 << 20))
                part = stream.unconsumed_tail
    except zlib.error:
        return None
    return size if stream.eof else None


def lacks_pixels(data: bytes) -> bool:
    """Tells whether a PNG holds whole data of fewer pixels than its header says."""
    width, height, bits, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits *= {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    passes = [(max(-((x - width) // dx), 0), max(-((y - height) // dy), 0)) for x, y, dx, dy in (_ADAM7 if interlaced else [(0, 0, 1, 1)])]
    found = inflated([content for kind, content, _ in of(data) if kind == b"IDAT"])
    return found is not None and found < sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in passes if columns)
