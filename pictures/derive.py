"""Pairs from any photos: pictures that are made of others, as what these are to be made of again.

All take a picture, uint8 (H, W, 3), and its name, and return one of its size. They are functions of these alone.
"""

import random

import numpy as np
from PIL import Image

from pictures import images

WORK = 256  # short side that edges are looked for at: of a larger photo they would be its grain, and lines too thin for a network to see
SIGMA = 1.5  # of the blur before, pixels of these
STRONG, WEAK = 92, 0.4  # percent of the picture that are less steep than where a line begins; it goes on down to this share of that
LEAST = 4.0  # levels a pixel, below which nothing is a line: flat pictures have their steepest places, too


def grey(picture: np.ndarray, name: str) -> np.ndarray:
    """Without colours: luma as old photos, JPEG and most programs have it (ITU-R BT.601), in all three channels."""
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def blank(picture: np.ndarray, name: str) -> np.ndarray:
    """With a grey square somewhere, of a quarter to a half of the short side; where, and how large, is a function of the name."""
    chance = random.Random(name)
    height, width = picture.shape[:2]
    side = max(round(min(height, width) * chance.uniform(0.25, 0.5)), 1)
    top, left = (round(chance.random() * (length - side)) for length in (height, width))
    holed = picture.copy()
    holed[top : top + side, left : left + side] = 128
    return holed


def edges(picture: np.ndarray, name: str) -> np.ndarray:
    """A drawing: black lines on white where the brightness changes most (Canny 1986), with thresholds relative to the picture's own."""
    height, width = picture.shape[:2]
    at = images.with_short_side(height, width, min(height, width, WORK))
    luma = np.asarray(Image.fromarray(images.resize(picture, *at)).convert("L"), np.float32)
    dy, dx = np.gradient(_blurred(_blurred(luma).T).T) if min(at) > 1 else (np.zeros(at), np.zeros(at))
    steep = np.hypot(dx, dy)
    crest = steep * _is_crest(steep, dx, dy)
    strong = max(np.percentile(steep, STRONG), LEAST)
    lines = _grown(crest >= strong, crest >= max(WEAK * strong, LEAST / 2))
    drawing = np.where(lines[..., np.newaxis], np.uint8(0), np.uint8([255, 255, 255]))
    return images.resize(drawing, height, width)


KINDS = {"grey": grey, "edges": edges, "blank": blank}


def _blurred(rows: np.ndarray) -> np.ndarray:
    """Gaussian blur along the last axis, the margins continued."""
    reach = round(3 * SIGMA)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SIGMA) ** 2)
    padded = np.pad(rows, ((0, 0), (reach, reach)), "edge")
    return sum(weight * padded[:, i : i + rows.shape[1]] for i, weight in enumerate(kernel / kernel.sum()))


def _is_crest(steep: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Where the gradient is no smaller than beside it along its own direction, of four."""
    height, width = steep.shape
    padded = np.pad(steep, 1)
    octant = np.rint(np.arctan2(dy, dx) / (np.pi / 4)).astype(int) % 4  # 0: along a row, 1: down to the right, 2: down a column
    found = np.zeros(steep.shape, bool)
    for way, (y, x) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        after, before = (padded[1 + s * y : 1 + s * y + height, 1 + s * x : 1 + s * x + width] for s in (1, -1))
        found |= (octant == way) & (steep >= after) & (steep > before)
    return found


def _grown(strong: np.ndarray, weak: np.ndarray) -> np.ndarray:
    """What of `weak` hangs together with `strong`."""
    height, width = strong.shape
    lines, count = strong, -1
    while lines.sum() != count:
        count, padded = lines.sum(), np.pad(lines, 1)
        lines = weak & np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0) | strong
    return lines
