"""JPEGs that are decoded though they are damaged: it is noticed, and nothing is said of those that are whole."""

import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from photos import ODD, PLAIN, RGB, save
from PIL import Image

from pictures import damage

LARGE = Image.fromarray(draw(6, 160, 240))


def drifted(subsampling: int, column: int, row: int, by: int) -> bytes:
    """A JPEG in which a block, and all after it, are brighter: as an error leaves it that the decoder does not notice."""
    side = 16 if subsampling else 8
    pixels = np.asarray(LARGE).astype(int) // 2 + 40
    pixels[row * side : (row + 1) * side, column * side :] += by
    pixels[(row + 1) * side :] += by
    return save(Image.fromarray(np.uint8(pixels)), "JPEG", quality=95, subsampling=subsampling)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize(("column", "row", "by"), [(3, 4, 9), (7, 1, -12), (10, 7, 30)])
def test_a_jump_is_noticed_and_where_it_begins(subsampling, column, row, by):
    side = 16 if subsampling else 8
    words = f"from row {row * side}, column {column * side} on it is of another brightness"
    assert damage.jump(drifted(subsampling, column, row, by)) == words


def test_a_band_or_an_edge_is_no_jump():
    """Nor a step between pictures, right on the border of blocks."""
    for rows, columns in (
        (slice(64, None), slice(None)),
        (slice(64, 80), slice(None)),
        (slice(None), slice(64, None)),
        (slice(64), slice(64)),
    ):
        pixels = np.asarray(LARGE).astype(int) // 2 + 40
        pixels[rows, columns] += 30
        assert damage.jump(save(Image.fromarray(np.uint8(pixels)), "JPEG", quality=95)) is None
    stairs = np.full((160, 240, 3), 60, np.uint8)
    for i in range(10):
        stairs[16 * i :, 24 * i :] = 60 + 15 * i
    assert damage.jump(save(Image.fromarray(stairs), "JPEG", quality=95)) is None


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG upright", "JPEG grey", "JPEG CMYK", "JPEG of two frames"])
def test_nothing_is_said_of_what_is_whole(name):
    assert damage.of_jpeg(PLAIN[name] if name in PLAIN else ODD[name][0]) is None


def flipped() -> bytes:
    """A JPEG with an error that libjpeg does notice."""
    data = save(RGB, "JPEG", quality=95)
    start = data.index(b"\xff\xda") + 14
    for at in range(start, len(data) - 2):
        changed = data[:at] + bytes([data[at] ^ 0x55 if data[at] ^ 0x55 != 0xFF else 0]) + data[at + 1 :]
        if 0xFF not in data[at - 1 : at + 1] and damage.said(changed):
            return changed
    raise AssertionError


def test_what_libjpeg_says_is_told_and_not_printed(capfd):
    words = damage.of_jpeg(flipped())
    assert "extraneous bytes before marker" in words or "premature end" in words
    assert capfd.readouterr().err == ""


def test_what_others_print_meanwhile_is_not_lost(capfd, monkeypatch):
    lines = b"Corrupt JPEG data: premature end\na line of another thread\nWarning: unknown JFIF revision number 2.01\n"
    monkeypatch.setattr(tf.io, "decode_jpeg", lambda data, **_: os.write(2, lines))
    assert damage.said(b"") == "premature end"
    assert capfd.readouterr().err == "a line of another thread\n"


def test_without_tensorflow_it_is_not_loaded_for_that(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert damage.of_jpeg(PLAIN["JPEG"]) is None
    assert "another brightness" in damage.of_jpeg(drifted(2, 3, 4, 9))
