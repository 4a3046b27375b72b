"""Distances and colour changes against closed forms."""

import numpy as np
import pytest
from conftest import draw

import metrics

CHANGE = np.array([[0.5, 0.1, 0.0], [0.0, 0.4, -0.2], [0.2, 0.0, 0.6], [10.0, 40.0, 60.0]])  # keeps 0 … 255 in 0 … 255


@pytest.mark.parametrize("a, b, distance", [(0, 0, 0), (0, 255, 1), (255, 0, 1), (10, 250, 240 / 255), (3, 2, 1 / 255)])
def test_l1_of_plain_pictures(a, b, distance):
    assert metrics.l1(np.full((4, 5, 3), a, np.uint8), np.full((4, 5, 3), b, np.uint8)) == pytest.approx(distance, abs=1e-12)


def test_l1_is_the_mean_over_pixels_and_channels():
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 1, 2] = 255
    assert metrics.l1(a, b) == pytest.approx(1 / 12)


def test_the_fit_finds_the_change_that_was_made():
    inputs = [draw(0, 30, 40), draw(1, 24, 20)]
    targets = [metrics.change_colour(picture, CHANGE) for picture in inputs]
    found = metrics.fit_colour_change(inputs, targets)
    np.testing.assert_allclose(found[:3], CHANGE[:3], atol=0.002)  # targets are rounded
    np.testing.assert_allclose(found[3], CHANGE[3], atol=0.2)


def test_the_fit_is_the_best_in_least_squares():
    inputs, targets = [draw(0), draw(1)], [draw(2), draw(3)]
    pixels, wanted = (np.concatenate(p).reshape(-1, 3).astype(float) for p in (inputs, targets))
    residual = np.c_[pixels, np.ones(len(pixels))] @ metrics.fit_colour_change(inputs, targets) - wanted
    np.testing.assert_allclose(pixels.T @ residual / len(pixels), 0, atol=1e-5)  # no change of the map makes it smaller
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-7)


@pytest.mark.parametrize("kind", ["one colour", "grey"])
def test_the_fit_needs_no_variety(kind):
    picture = np.full((9, 9, 3), 200, np.uint8) if kind == "one colour" else np.repeat(draw(0)[..., :1], 3, axis=2)
    target = metrics.change_colour(picture, CHANGE)
    change = metrics.fit_colour_change([picture], [target])
    assert np.abs(change).max() < 1000
    assert metrics.l1(metrics.change_colour(picture, change), target) < 1 / 255


def test_change_colour_rounds_and_clips():
    brighter = np.vstack([np.eye(3), [[-100.0, 0.6, 100.0]]])
    changed = metrics.change_colour(np.full((1, 1, 3), 180, np.uint8), brighter)
    assert changed.dtype == np.uint8 and changed.tolist() == [[[80, 181, 255]]]
    assert metrics.change_colour(np.full((1, 1, 3), 50, np.uint8), brighter).tolist() == [[[0, 51, 150]]]
