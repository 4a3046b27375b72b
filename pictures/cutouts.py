"""Pictures that are transparent in part: what cannot be seen of them must not show when they are resized or translated."""

import numpy as np
from PIL import Image

from pictures import damage, images
from system.storage import AnyPath

FAINT = 64  # alpha below which colours are means without the negative weights of bicubic interpolation, which would be divided by little


def read(file: str | AnyPath, damaged: dict[str | AnyPath, str | None] | None = None) -> np.ndarray:
    """A picture file as networks see it, uint8 (H, W, 3), at its own size: see `resize`. Raises `PictureError` as `images.read`.

    What is wrong with one that can be decoded all the same is noted in `damaged`; None if nothing is.
    """

    def decode(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        if damaged is not None and file not in damaged:
            damaged[file] = damage.of_jpeg(data)
        return images.decode_with_alpha(data)

    colours, alpha = images.read(file, decode)
    return resize(colours, alpha, *colours.shape[:2])[0]


def resize(colours: np.ndarray, alpha: np.ndarray | None, height: int, width: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Resizes colours, uint8 (H, W, 3), each by as much as is seen of it, and alpha, uint8 (H, W), if there is one.

    Where nothing is seen the nearest colours are continued: a network looks there too.
    """
    if alpha is None:
        return images.resize(colours, height, width), None
    if alpha.shape == (height, width):
        return _continued(colours, alpha > 0), alpha
    smaller, mean = _mean(colours, alpha, height, width, Image.Resampling.BICUBIC), images.resize(alpha, height, width)
    soft = _mean(colours, alpha, height, width, Image.Resampling.BILINEAR)
    smaller = np.where((mean < FAINT)[..., np.newaxis], soft, smaller)
    seen = (mean > 0) & np.isfinite(smaller).all(-1)
    levels = np.rint(np.clip(np.where(seen[..., np.newaxis], smaller, 255), 0, 255)).astype(np.uint8)
    return _continued(levels, seen), mean


def _mean(colours: np.ndarray, alpha: np.ndarray, height: int, width: int, filter: Image.Resampling) -> np.ndarray:
    """Colours weighted by alpha, float32 (height, width, 3), infinite or no number where there is nothing."""

    def resized(channel: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(channel).resize((width, height), filter))

    weights = alpha.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = resized(weights)
        return np.stack([resized(colours[..., i] * weights) / total for i in range(3)], -1)


def _continued(colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Gives each pixel that is not seen the colour of the nearest that is; white if there is none."""
    if seen.all():
        return colours
    if not seen.any():
        return np.full_like(colours, 255)
    rows, columns = nearest(seen)
    return colours[rows, columns]


def nearest(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of the seen pixel that is nearest to each, int32 (H, W), or of one hardly farther; bool (H, W), not all False.

    Jump flooding (Rong and Tan, 2006): each pixel asks eight others, first far ones, then ever nearer ones, for the nearest they know.
    """
    y, x = (np.arange(side, dtype=np.float32) for side in seen.shape)
    far = np.float32(1e9)  # from everywhere, where none is known yet
    rows, columns = (np.where(seen, own, far) for own in (y[:, np.newaxis], x))
    distance = np.where(seen, np.float32(0), np.float32(np.inf))
    step = 1 << (max(seen.shape) - 1).bit_length()
    while step := step // 2:
        for shift in ((i * step, j * step) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j):
            row, column = (np.roll(known, shift, (0, 1)) for known in (rows, columns))
            apart = np.square(row - y[:, np.newaxis])
            apart += np.square(column - x)
            closer = apart < distance
            for known, other in ((rows, row), (columns, column), (distance, apart)):
                np.copyto(known, other, where=closer)
    return rows.astype(np.int32), columns.astype(np.int32)
