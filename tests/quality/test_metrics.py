"""Distances of pictures and of sets of pictures, and colour changes, against closed forms."""

import numpy as np
import pytest
from conftest import draw

from quality import metrics

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


# --- pairs of pictures


def test_psnr_is_that_of_the_mean_squared_error():
    a = np.full((4, 4, 3), 100, np.uint8)
    assert metrics.psnr(a, a + np.uint8(5)) == pytest.approx(10 * np.log10(255**2 / 25), abs=1e-4)
    assert metrics.psnr(a, a) == np.inf


def test_ssim_of_plain_pictures_is_its_comparison_of_brightness():
    a, b = np.full((20, 20, 3), 2, np.uint8), np.full((20, 20, 3), 10, np.uint8)
    c = (0.01 * 255) ** 2
    assert metrics.ssim(a, b) == pytest.approx((2 * 2 * 10 + c) / (2**2 + 10**2 + c), abs=1e-4)


def test_ssim_goes_by_structure():
    picture = draw(0)
    assert metrics.ssim(picture, picture) == pytest.approx(1)
    assert metrics.ssim(picture, 255 - picture) < 0 < metrics.ssim(picture, np.uint8(picture // 2 + 60)) < 0.99
    assert np.isnan(metrics.ssim(picture[:10], picture[:10]))


def test_ssim_is_the_definition():
    """From 11×11 on; smaller pictures have none."""
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    a, b = draw(0, 12, 11).astype(float), draw(0, 12, 11) / 2 + draw(1, 12, 11) // 4
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(x):
        return np.einsum("hwcij,ij->hwc", np.lib.stride_tricks.sliding_window_view(x, (11, 11), axis=(0, 1)), window)

    a, b = np.rint(a), np.rint(b)
    brightness = (2 * mean(a) * mean(b) + c1) / (mean(a) ** 2 + mean(b) ** 2 + c1)
    covariance, variances = mean(a * b) - mean(a) * mean(b), mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    expected = np.mean(brightness * (2 * covariance + c2) / (variances + c2))
    assert metrics.ssim(np.uint8(a), np.uint8(b)) == pytest.approx(expected, abs=1e-4) and 0.1 < expected < 0.9
    assert np.isfinite(metrics.ssim(np.uint8(a[:11]), np.uint8(b[:11])))


# --- sets of pictures, as their features


def gaussian(n: int, mean, spread, seed: int = 0) -> np.ndarray:
    """Features (n, D) whose mean and covariance are exactly `mean` and diag(spread²)."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    x = np.linalg.qr(x)[0] * np.sqrt(n - 1)  # columns that are orthogonal to one another and to 1
    return x * np.asarray(spread) + mean


@pytest.mark.parametrize("n, m", [(50, 70), (8, 60), (9, 8)])
def test_fid_of_gaussians_is_the_closed_form(n, m):
    mean_a, mean_b, a, b = [0, 1, 2, 3], [1, 1, 0, 3], [1, 2, 3, 0.5], [2, 2, 1, 0.1]
    expected = np.sum((np.subtract(mean_a, mean_b)) ** 2) + np.sum(np.subtract(a, b) ** 2)
    assert metrics.fid(gaussian(n, mean_a, a), gaussian(m, mean_b, b, seed=1)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, d", [(40, 6), (7, 30)])
def test_fid_is_the_definition(n, d):
    """With the matrix square root written out; in the second case no covariance has full rank."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(size=(n + 3, d)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root
    assert metrics.fid(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(expected, rel=1e-4)
    assert metrics.fid(a, b) == pytest.approx(metrics.fid(b, a))


def kid_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    return sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_kid_is_the_definition(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(7, 5)), rng.normal(size=(9, 5)) + 0.5
    expected = kid_by_definition(a, b)
    assert metrics.kid(a, b)[0] == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(metrics, "BLOCK", 2)  # more pictures than go through at once
    assert metrics.kid(a, b)[0] == pytest.approx(expected, rel=1e-12)


def test_the_jackknife_leaves_each_picture_out():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)) + 1
    without_a = [kid_by_definition(np.delete(a, i, 0), b) for i in range(6)]
    without_b = [kid_by_definition(a, np.delete(b, i, 0)) for i in range(5)]
    assert metrics.kid(a, b)[1] == pytest.approx(np.sqrt(5 * np.var(without_a) + 4 * np.var(without_b)), rel=1e-9)


@pytest.mark.parametrize("shift, n, m, largest", [(0, 12, 20, 1.6), (1, 40, 50, 1.2)])
def test_kid_has_no_bias_and_a_standard_error_on_the_safe_side(shift, n, m, largest):
    """Over many small samples of two kinds that are alike, and of two that are not. FID of the former is far from 0."""
    rng = np.random.default_rng(4)
    expected = metrics.kid(rng.normal(size=(2000, 8)), rng.normal(size=(2000, 8)) + shift)[0]
    found = np.array([metrics.kid(rng.normal(size=(n, 8)), rng.normal(size=(m, 8)) + shift) for _ in range(225)])
    values, errors = found.T
    assert abs(values.mean() - expected) < 4 * values.std() / 15
    assert 0.9 < np.sqrt(np.mean(errors**2)) / values.std() < largest
    if not shift:
        assert min(metrics.fid(rng.normal(size=(n, 8)), rng.normal(size=(m, 8))) for _ in range(20)) > 1


@pytest.mark.parametrize("of", [metrics.fid, lambda a, b: metrics.kid(a, b)[0]], ids=["fid", "kid"])
def test_the_order_of_pictures_does_not_matter_and_equal_sets_are_close(of):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(30, 6)), rng.normal(size=(30, 6)) + 1
    assert of(rng.permutation(a), rng.permutation(b)) == pytest.approx(of(a, b), rel=1e-9)
    assert of(a, a) <= 1e-9 < 0.5 < of(a, b)
