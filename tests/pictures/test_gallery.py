"""The page of pictures: all in one file, whatever their names."""

import base64
import re

import numpy as np
import pytest
from conftest import draw

from pictures import gallery, images


@pytest.mark.parametrize("height, width, shape", [(100, 50, (100, 50)), (512, 300, (256, 150)), (1, 5000, (1, 256))])
def test_thumbnails_are_small_and_keep_their_shape(height, width, shape):
    assert images.decode(gallery.thumbnail(draw(0, height, width))).shape == (*shape, 3)


@pytest.mark.parametrize("side", [64, 512])
def test_people_see_what_is_transparent_on_white(side):
    picture, alpha = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    alpha[side // 4 :] = 255
    shown = images.decode(gallery.thumbnail(picture, alpha)).mean((1, 2))
    row = len(shown) // 4
    assert shown[: row - 8].min() > 250 and shown[row + 8 :].max() < 5


def test_the_page_holds_every_picture_and_needs_nothing_else():
    rows = [(f"{name}.png", [gallery.thumbnail(draw(seed + i)) for i in range(2)]) for seed, name in enumerate("ab")]
    page = gallery.page("apple → orange", "model.pb", ["apple", "orange"], rows)
    found = [base64.b64decode(data) for data in re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)]
    assert found == [file for _, files in rows for file in files]
    assert page.index("a.png") < page.index("b.png")
    assert not re.search(r"https?://|<script|<link", page)


def test_columns_are_as_wide_as_what_is_in_them_and_no_wider_than_the_screen():
    """A small picture is not pulled apart from its translation, and two large ones fit on a phone."""
    page = gallery.page("t", "n", ["a", "b"], [("x.png", [gallery.thumbnail(draw(0, 32, 32))] * 2)])
    assert "width: min-content" in page and "100vw - 2rem) / 2" in page
    assert not re.search(r"(?<!-)width: [0-9.]+%", page) and "caption" not in page


def test_names_are_text_and_never_markup():
    names = ["<b>", "<i>", '<u alt="">', "<img src=x onerror=alert(1)>"]
    title, note, column, name = names
    page = gallery.page(title, note, [column], [(name, [gallery.thumbnail(np.zeros((8, 8, 3), np.uint8))])])
    assert not any(name in page for name in names) and "&lt;img src=x onerror" in page
    assert 'alt="&lt;u alt=&quot;&quot;&gt;: &lt;img' in page
