"""Pictures that are too large for a network at once: overlapping tiles, blended so that no seam shows."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

STEP = 4  # tiles begin at multiples of it, as the networks halve pictures twice
LEAST, MOST = 512, 2048  # sides of tiles that are chosen here
BYTES_PER_PIXEL_AND_FILTER = 40  # of working memory in a pass, for each filter of a generator's first layer


def spans(length: int, tile: int, overlap: int, step: int = STEP) -> list[tuple[int, int]]:
    """Divides 0 … `length` into spans of `tile`, evenly, neighbours sharing at least `overlap`.

    They begin at multiples of `step`, so the last one may be longer by less than that.
    """
    if length < tile + step:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    last = (length - tile) // step * step
    begins = [round(i * last / (count - 1) / step) * step for i in range(count)]
    return [(begin, begin + tile) for begin in begins[:-1]] + [(last, length)]


def weights(spans: list[tuple[int, int]], overlap: int) -> list[np.ndarray]:
    """How much each span counts at each of its pixels, float32: least at its ends, of which it knows least; all add up to 1 everywhere."""
    rise = np.sin((np.arange(overlap, dtype=np.float32) + 0.5) / overlap * np.pi / 2) ** 2
    shares, total = [], np.zeros(spans[-1][1], np.float32)
    for begin, end in spans:
        share = np.ones(end - begin, np.float32)
        if begin > 0:
            share[:overlap] = rise
        if end < len(total):
            share[-overlap:] *= rise[::-1]
        total[begin:end] += share
        shares.append(share)
    return [share / total[begin:end] for share, (begin, end) in zip(shares, spans, strict=True)]


def needs_tiles(translate, height: int, width: int, tile: int) -> bool:
    """Tells whether a picture is too large for a `translator.Translator` to take it at once."""
    return max(height, width) > translate.fixed_size if translate.fixed_size else height * width > tile**2


def translate_in_tiles(translate, picture: np.ndarray, tile: int, tell: Callable[[int, int], None] = lambda done, of: None) -> np.ndarray:
    """Translates uint8 (H, W, 3) with a `translator.Translator`, at once if it fits in `tile`² pixels, or else part by part.

    Every tile is normalised with statistics of the whole picture, if the model can do that. `tell`: called with the tiles done, and all.
    """
    height, width = picture.shape[:2]
    fixed = translate.fixed_size
    if fixed and min(height, width) < fixed:
        below, right = (max(0, fixed - side) for side in (height, width))
        mirrored = np.pad(picture, [(0, below), (0, right), (0, 0)], "symmetric")
        return translate_in_tiles(translate, mirrored, tile, tell)[:height, :width]
    if not needs_tiles(translate, height, width, tile):
        return translate(picture[np.newaxis])[0]
    tile, step = (fixed, 1) if fixed else (tile, STEP)
    overlap = tile // 4
    rows, columns = spans(height, tile, overlap, step), spans(width, tile, overlap, step)
    row_weights, column_weights = weights(rows, overlap), weights(columns, overlap)
    statistics = translate.statistics(sample(picture, tile))
    output = np.empty_like(picture)
    above = np.zeros((0, width, 3), np.float32)  # what the tiles above have added to the rows that they share with the next
    for i, (top, bottom) in enumerate(rows):
        band = np.zeros((bottom - top, width, 3), np.float32)
        for j, (left, right) in enumerate(columns):
            part = translate(picture[np.newaxis, top:bottom, left:right], statistics)[0]
            band[:, left:right] += part * column_weights[j][:, np.newaxis]
            tell(i * len(columns) + j + 1, len(rows) * len(columns))
        band *= row_weights[i][:, np.newaxis, np.newaxis]
        band[: len(above)] += above
        done = rows[i + 1][0] if i + 1 < len(rows) else height
        output[top:done] = np.rint(band[: done - top])
        above = band[done - top :].copy()
    return output


def sample(picture: np.ndarray, tile: int) -> np.ndarray:
    """Squares from all over a picture, uint8 (B, side, side, 3), together no more than a tile, or the least of those."""
    height, width = picture.shape[:2]
    tile = max(tile, LEAST)
    side = min(tile // 4, 256, height, width)
    side = side // STEP * STEP or side
    count = tile**2 // max(side, 8) ** 2  # networks have 8 pixels at least
    across = max(1, min(round((count * width / height) ** 0.5), count, -(-width // side)))
    down = max(1, min(count // across, -(-height // side)))
    corners = [(y, x) for y in _spread(down, height, side) for x in _spread(across, width, side)]
    return np.stack([picture[y : y + side, x : x + side] for y, x in corners])


def _spread(n: int, length: int, side: int) -> list[int]:
    """Where n parts of 0 … `length` begin, each in the middle of an n-th of it, as far as there is room."""
    return [min(max(0, round((i + 0.5) * length / n - side / 2)), length - side) for i in range(n)]


def fitting(translate) -> int:
    """The side of the largest tile for which there is memory: half of what is free."""
    per_pixel = BYTES_PER_PIXEL_AND_FILTER * translate.metadata.get("ngf", 64)
    side = int((free_memory() / 2 / per_pixel) ** 0.5) // STEP * STEP
    return max(LEAST, min(side, MOST))


def free_memory() -> int:
    """Bytes that the system, or the container, could give now; 4 GiB where neither says."""
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError):  # the latter where there is no limit: "max"
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=4 << 30)
