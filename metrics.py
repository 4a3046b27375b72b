"""How far pictures are from each other, as functions of arrays."""

import numpy as np


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of uint8 pictures of equal shape, as a share of the range: 0 (equal) … 1 (black against white)."""
    return float(np.abs(a.astype(np.float64) - b).mean() / 255)


def fit_colour_change(inputs: list[np.ndarray], targets: list[np.ndarray]) -> np.ndarray:
    """Returns the affine map of RGB, float (4, 3), that brings pixels of `inputs` nearest to `targets` in least squares.

    It is what a translation must beat to have done more than tint the picture. Pictures are uint8 (H, W, 3), equal in shape pair by pair.
    """
    gram, moment = np.zeros((4, 4)), np.zeros((4, 3))  # the normal equations, so that memory does not grow with the pictures
    for picture, target in zip(inputs, targets, strict=True):
        pixels = np.c_[picture.reshape(-1, 3).astype(np.float64), np.ones(picture.size // 3)]
        gram += pixels.T @ pixels
        moment += pixels.T @ target.reshape(-1, 3)
    return np.linalg.lstsq(gram, moment, rcond=1e-12)[0]


def change_colour(picture: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Applies what `fit_colour_change` found to uint8 (H, W, 3); clipped."""
    return np.clip(np.rint(picture @ change[:3] + change[3]), 0, 255).astype(np.uint8)
