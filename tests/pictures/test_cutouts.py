"""What is not seen of a picture does not show when it is resized, and a network finds the nearest colours there."""

import numpy as np
import pytest
from conftest import draw

from pictures import cutouts, images

DISC, HIDDEN = (60, 20, 10), (255, 255, 255)


def disc(side: int, hidden: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A disc of one colour with a soft rim, on a colour that is not seen."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    alpha = np.uint8(np.clip(side / 3 - np.hypot(y, x) + 0.5, 0, 1) * 255)
    return np.where((alpha > 0)[..., None], np.uint8(DISC), np.uint8(hidden)), alpha


@pytest.mark.parametrize("hidden", [HIDDEN, (0, 255, 0)])
@pytest.mark.parametrize("side", [13, 40, 48, 90])
def test_a_cutout_has_no_fringe(hidden, side):
    colours, alpha = disc(48, hidden)
    resized, its_alpha = cutouts.resize(colours, alpha, side, side)
    assert (resized == DISC).all()
    assert np.array_equal(its_alpha, images.resize(alpha, side, side)) and its_alpha.min() == 0 and its_alpha.max() == 255


@pytest.mark.parametrize("size", [(20, 30), (40, 60), (56, 90)])
def test_where_all_is_seen_it_is_as_any_picture(size):
    picture = draw(0, 40, 60)
    resized, alpha = cutouts.resize(picture, np.full((40, 60), 255, np.uint8), *size)
    assert np.abs(resized.astype(int) - images.resize(picture, *size)).max() <= 1 and (alpha == 255).all()


def test_colours_count_by_as_much_as_is_seen_of_them():
    colours = np.repeat(np.uint8([[[200, 0, 0]], [[0, 0, 200]]]), 8, axis=1).repeat(4, axis=0)
    alpha = np.repeat(np.uint8([[240], [80]]), 8, axis=1).repeat(4, axis=0)
    resized, its_alpha = cutouts.resize(colours, alpha, 1, 1)
    assert its_alpha[0, 0] == 160 and np.abs(resized[0, 0].astype(int) - [150, 0, 50]).max() <= 1


@pytest.mark.parametrize("count", [1, 2, 9, 200])
def test_the_nearest_is_found_as_by_trying_all(count):
    rng = np.random.default_rng(count)
    for shape in ((31, 47), (1, 50), (50, 1), (16, 16)):
        seen = np.zeros(shape, bool)
        seen.flat[rng.choice(seen.size, min(count, seen.size), replace=False)] = True
        rows, columns = cutouts.nearest(seen)
        y, x = np.indices(shape)
        least = ((y[..., None] - np.nonzero(seen)[0]) ** 2 + (x[..., None] - np.nonzero(seen)[1]) ** 2).min(-1)
        assert seen[rows, columns].all()
        assert np.mean((rows - y) ** 2 + (columns - x) ** 2 == least) > 0.99


def test_hidden_colours_become_those_beside_them_and_white_where_nothing_is_seen():
    colours = np.zeros((6, 12, 3), np.uint8)
    colours[:, :3], colours[:, 9:], colours[:, 3:9] = (200, 0, 0), (0, 0, 200), (0, 255, 0)
    alpha = np.full((6, 12), 255, np.uint8)
    alpha[:, 3:9] = 0
    filled, its_alpha = cutouts.resize(colours, alpha, 6, 12)
    assert (filled[:, :6] == (200, 0, 0)).all() and (filled[:, 6:] == (0, 0, 200)).all() and its_alpha is alpha
    for size in ((6, 12), (3, 5)):
        assert (cutouts.resize(colours, np.zeros_like(alpha), *size)[0] == 255).all()
