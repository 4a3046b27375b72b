"""Pictures that are too large for a network at once: overlapping tiles, blended so that no seam shows.

A model here is a `formats.translator.Translator`: a function of pictures with the attributes that are named below.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

LEAST, MOST = 512, 2048  # sides of tiles that are chosen here
BYTES_PER_PIXEL_AND_FILTER = 40  # of working memory in a pass, for each filter of a generator's first layer


def spans(length: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Divides 0 … `length` into spans of `tile`, evenly, neighbours sharing about `overlap` or more.

    They begin at multiples of `multiple`, as a network that halves pictures would else see other pixels together than in the whole
    picture. So the last span may be longer, and an overlap shorter, by less than that.
    """
    if length < tile + multiple:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    last = (length - tile) // multiple * multiple
    begins = [round(i * last / (count - 1) / multiple) * multiple for i in range(count)]
    return [(begin, begin + tile) for begin in begins[:-1]] + [(last, length)]


def weights(spans: list[tuple[int, int]], overlap: int) -> list[np.ndarray]:
    """How much each span counts at each of its pixels, float32: least at its ends, where it lacks context; all add up to 1."""
    rise = np.sin((np.arange(overlap, dtype=np.float32) + 0.5) / overlap * np.pi / 2) ** 2
    shares, total = [], np.zeros(spans[-1][1], np.float32)
    for begin, end in spans:
        share = np.ones(end - begin, np.float32)
        if begin > 0:
            share[:overlap] = rise
        if end < len(total):
            share[-overlap:] = rise[::-1]
        total[begin:end] += share
        shares.append(share)
    return [share / total[begin:end] for share, (begin, end) in zip(shares, spans, strict=True)]


def padded(model, height: int, width: int) -> tuple[int, int]:
    """The height and width of what the network computes for a picture."""
    return tuple(max(-(-side // model.multiple) * model.multiple, model.smallest) for side in (height, width))


def translate_in_tiles(model, picture: np.ndarray, tile: int, after_tile: Callable = lambda done, count: None) -> np.ndarray:
    """Translates uint8 (H, W, 3), at once if it has at most `tile`² pixels, as `padded`, or else in tiles.

    A model of one size gets no side longer than `model.fixed_size`, whatever `tile` is. All tiles are normalised with statistics of the
    whole picture if the model can give these. `after_tile` is called with the number of tiles done, and of all.
    """
    height, width = picture.shape[:2]
    fixed, multiple = model.fixed_size, model.multiple
    tile = fixed or max(tile // multiple, 4) * multiple  # of which a quarter overlaps
    overlap = tile // 4
    rows, columns = spans(height, tile, overlap, multiple), spans(width, tile, overlap, multiple)
    if len(rows) == len(columns) == 1 or not fixed and math.prod(padded(model, height, width)) <= tile**2:
        return model(picture[np.newaxis])[0]
    row_weights, column_weights = weights(rows, overlap), weights(columns, overlap)
    statistics = model.statistics(sample(model, picture, tile))
    output = np.empty_like(picture)
    above = np.zeros((0, width, 3), np.float32)  # what the rows of tiles above contribute to the pixels that they share with the next
    for i, (top, bottom) in enumerate(rows):
        band = np.zeros((bottom - top, width, 3), np.float32)
        for j, (left, right) in enumerate(columns):
            translated = model(picture[np.newaxis, top:bottom, left:right], statistics)[0]
            band[:, left:right] += translated * column_weights[j][:, np.newaxis]
            after_tile(i * len(columns) + j + 1, len(rows) * len(columns))
        band *= row_weights[i][:, np.newaxis, np.newaxis]
        band[: len(above)] += above
        end = rows[i + 1][0] if i + 1 < len(rows) else height  # the rows of pixels down to here are complete
        output[top:end] = np.rint(band[: end - top])
        above = band[end - top :].copy()
    return output


def sample(model, picture: np.ndarray, tile: int) -> np.ndarray:
    """Squares from all over a picture, uint8 (B, side, side, 3), that together have no more pixels than a tile of `tile` or `LEAST`."""
    height, width = picture.shape[:2]
    tile = max(tile, LEAST)
    side = min(tile // 4, 256, height, width)
    side = side // model.multiple * model.multiple or side
    count = max(1, tile**2 // math.prod(padded(model, side, side)))
    across = max(1, min(round((count * width / height) ** 0.5), count, -(-width // side)))
    down = max(1, min(count // across, -(-height // side)))
    corners = [(y, x) for y in _spread(down, height, side) for x in _spread(across, width, side)]
    return np.stack([picture[y : y + side, x : x + side] for y, x in corners])


def _spread(n: int, length: int, side: int) -> list[int]:
    """Where n squares begin in 0 … `length`, each in the middle of an n-th of it if there is room."""
    return [min(max(0, round((i + 0.5) * length / n - side / 2)), length - side) for i in range(n)]


def largest_tile(model) -> int:
    """The side of the largest tile, from `LEAST` to `MOST`, that half of the free memory is enough for."""
    per_pixel = BYTES_PER_PIXEL_AND_FILTER * model.metadata.get("ngf", 64)
    return max(LEAST, min(int((free_memory() / 2 / per_pixel) ** 0.5), MOST))


def free_memory() -> int:
    """Bytes that the system, or the container, could give now; 4 GiB where neither tells."""
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError):  # the latter where there is no limit: "max"
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=4 << 30)
