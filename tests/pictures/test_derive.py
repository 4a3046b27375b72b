"""What is made of photos to train on pairs."""

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from pictures import derive, images

DISC = np.uint8(np.where(np.hypot(*np.mgrid[-50:50, -50:50])[..., np.newaxis] < 30, 40, 220) * np.ones(3))


@pytest.mark.parametrize("kind", derive.KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (2, 3), (31, 47), (300, 270), (3, 600)])
def test_what_is_made_has_the_size_of_its_picture_and_is_always_the_same(kind, shape):
    picture = draw(0, *shape)
    original = picture.copy()
    made = derive.KINDS[kind](picture, "a.jpg")
    assert (made.shape, made.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(derive.KINDS[kind](picture, "a.jpg"), made) and np.array_equal(picture, original)


def test_grey_is_what_other_programs_make():
    picture = draw(1, 20, 30)
    made = derive.grey(picture, "")
    assert (made == made[..., :1]).all()
    assert np.abs(made[..., 0] - picture @ [0.299, 0.587, 0.114]).max() <= 1


def test_a_square_is_blank_whose_place_and_size_depend_on_the_name():
    picture = np.zeros((80, 120, 3), np.uint8)
    places = set()
    for name in map(str, range(200)):
        rows, columns = (np.flatnonzero(derive.blank(picture, name).any((2, axis))) for axis in (1, 0))
        assert (derive.blank(picture, name)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 128).all()
        assert len(rows) == len(columns) and 20 <= len(rows) <= 40
        places.add((rows[0], columns[0], len(rows)))
    assert len(places) > 190
    assert min(place[0] for place in places) == 0 and max(sum(place[::2]) for place in places) == 80
    assert derive.blank(picture, "a.jpg").sum() == 3 * 128 * 28**2  # in every version


def test_edges_are_thin_lines_where_the_brightness_changes():
    drawing = derive.edges(DISC, "")
    dark = (drawing < 128).all(-1)
    assert set(np.unique(drawing)) == {0, 255} and (drawing == drawing[..., :1]).all()
    away = np.abs(np.hypot(*np.mgrid[-50:50, -50:50]) - 30)
    assert away[dark].max() < 2.5 and 150 < dark.sum() < 2.5 * np.pi * 30
    angles = np.arctan2(*(np.argwhere(dark) - 50).T)
    assert np.diff(np.sort(angles)).max() < 0.1  # the line is closed


def test_edges_do_not_depend_on_the_size_of_a_photo_or_on_its_contrast():
    photo = images.resize(DISC, 256, 256)
    drawing = derive.edges(photo, "") < 128
    larger = images.resize(derive.edges(images.resize(photo, 1024, 1024), ""), 256, 256) < 128
    assert (larger != drawing).mean() < 0.005 and drawing.mean() > 0.008
    assert np.array_equal(derive.edges(np.uint8(photo // 3 + 100), "") < 128, drawing)


@pytest.mark.parametrize("noise", [0, 2])
def test_what_is_flat_has_no_edges(noise):
    grain = np.random.default_rng(0).integers(-noise, noise + 1, (64, 64, 3))
    assert (derive.edges(np.uint8(128 + grain), "") == 255).all()


def test_a_line_goes_on_where_it_is_faint():
    """Which by itself would be none."""
    picture = np.full((64, 64), 20)
    picture[:, 20:] += np.linspace(200, 40, 64).astype(int)[:, np.newaxis]
    picture[:, 40:] += 40
    lines = derive.edges(np.dstack([np.uint8(picture)] * 3), "")[..., 0] == 0
    assert lines[:, 12:28].any(1).all() and lines[:, 36:44].any(1).sum() < 8


def test_edges_of_a_photo_are_a_few_percent_of_it():
    photo = np.asarray(Image.effect_noise((256, 256), 80).resize((64, 64)).resize((256, 256), Image.Resampling.BICUBIC).convert("RGB"))
    assert 0.01 < (derive.edges(photo, "") < 128).mean() < 0.2
