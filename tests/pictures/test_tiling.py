"""Large pictures in tiles: everything is covered, nothing counts twice, and no seam shows."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import draw

from formats import model_files
from pictures import tiling


@pytest.mark.parametrize("length", [1, 63, 64, 65, 66, 67, 68, 100, 127, 128, 131, 500, 1001])
@pytest.mark.parametrize("tile, overlap", [(64, 16), (64, 32), (256, 64)])
@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_spans_cover_a_length_evenly_and_share_with_their_neighbours_only(length, tile, overlap, multiple):
    spans = tiling.spans(length, tile, overlap, multiple)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(begin % multiple == 0 and 0 < end - begin < tile + multiple for begin, end in spans)
    shared = [end - begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False)]
    assert all(overlap - multiple <= n for n in shared)
    assert len(spans) == 1 or max(shared) < tile
    between = np.diff([begin for begin, _ in spans])
    assert len(spans) < 3 or between.max() - between.min() <= multiple


def test_there_are_no_more_spans_than_are_needed():
    assert tiling.spans(67, 64, 16, 4) == [(0, 67)]
    assert tiling.spans(68, 64, 16, 4) == [(0, 64), (4, 68)]
    assert tiling.spans(112, 64, 16, 4) == [(0, 64), (48, 112)]
    assert tiling.spans(113, 64, 16, 4) == [(0, 64), (24, 88), (48, 113)]
    assert tiling.spans(131, 64, 16, 4) == [(0, 64), (32, 96), (64, 131)]


@pytest.mark.parametrize("length", [50, 65, 128, 1001])
def test_the_weights_add_up_to_one_everywhere(length):
    spans = tiling.spans(length, 64, 16, 4)
    total = np.zeros(length)
    for (begin, end), weights in zip(spans, tiling.weights(spans, 16), strict=True):
        assert weights.shape == (end - begin,) and weights.min() > 0
        assert (weights[0] < 0.05) == (begin > 0) and (weights[-1] < 0.05) == (end < length)
        total[begin:end] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_rise_and_fall_smoothly_where_spans_overlap():
    first, second = tiling.weights([(0, 64), (48, 112)], 16)
    rise = np.sin((np.arange(16) + 0.5) / 16 * np.pi / 2) ** 2
    np.testing.assert_allclose(first, [*np.ones(48), *rise[::-1]], atol=1e-6)
    np.testing.assert_allclose(second, [*rise, *np.ones(48)], atol=1e-6)


class Stand_In:
    """Adds what it knows of the whole picture, and remembers what it was given."""

    def __init__(self, fixed_size=None, multiple=4, smallest=8):
        self.parts, self.sampled, self.fixed_size, self.multiple, self.smallest = [], [], fixed_size, multiple, smallest

    def __call__(self, pictures, statistics=None):
        self.parts.append(pictures.shape[1:3])
        return pictures + np.uint8(0 if statistics is None else statistics)

    def statistics(self, parts):
        self.sampled.append(parts)
        return 3


@pytest.mark.parametrize("height, width", [(200, 130), (90, 1000), (64, 72), (131, 64)])
@pytest.mark.parametrize("multiple", [4, 8])
def test_a_picture_comes_out_whole_and_where_it_was(height, width, multiple):
    picture, model, reported = draw(0, height, width) // 2, Stand_In(multiple=multiple), []
    translated = tiling.translate_in_tiles(model, picture, 64, lambda done, count: reported.append((done, count)))
    assert np.array_equal(translated, picture + 3)
    assert len(model.parts) > 1 and max(h * w for h, w in model.parts) < (64 + multiple) ** 2
    assert reported == [(i + 1, len(model.parts)) for i in range(len(model.parts))]
    (sampled,) = model.sampled
    assert np.array_equal(sampled, tiling.sample(model, picture, 64))


@pytest.mark.parametrize("height, width", [(64, 64), (65, 64), (100, 150), (30, 40), (1, 200)])
def test_a_model_of_one_size_gets_no_side_that_is_longer(height, width):
    picture, model = draw(0, height, width) // 2, Stand_In(fixed_size=64, multiple=1)
    translated = tiling.translate_in_tiles(model, picture, 1000)
    assert np.array_equal(translated, picture + (3 if max(height, width) > 64 else 0))
    assert set(model.parts) == {(min(height, 64), min(width, 64))}


@pytest.mark.parametrize("height, width", [(64, 64), (32, 128), (10, 340), (1, 512), (67, 67)])
def test_a_picture_that_fits_goes_through_at_once(height, width):
    picture, model = draw(0, height, width) // 2, Stand_In()
    assert np.array_equal(tiling.translate_in_tiles(model, picture, 64), picture)
    assert model.parts == [(height, width)] and not model.sampled


@pytest.mark.parametrize("tile, multiple, used", [(64, 4, 64), (70, 4, 68), (71, 8, 64), (20, 32, 128)])
def test_tiles_are_multiples_of_what_the_model_takes(tile, multiple, used):
    model = Stand_In(multiple=multiple)
    tiling.translate_in_tiles(model, np.zeros((used, used, 3), np.uint8), tile)
    tiling.translate_in_tiles(model, np.zeros((used + multiple, used, 3), np.uint8), tile)
    assert model.parts == [(used, used)] * 3


@pytest.mark.parametrize("height, width, model", [(1, 516, Stand_In()), (3000, 1, Stand_In())])
def test_a_picture_fits_if_what_is_computed_for_it_does(height, width, model):
    translated = tiling.translate_in_tiles(model, np.zeros((height, width, 3), np.uint8), 64)
    assert (translated == 3).all() and len(model.sampled) == 1
    assert all(math.prod(tiling.padded(model, *part)) <= 64 * 64 for part in model.parts)


@pytest.mark.parametrize("height, width", [(5000, 100), (2000, 3000)])
def test_the_sample_of_a_model_that_pads_much_is_no_larger_than_a_tile(height, width):
    model = Stand_In(multiple=256, smallest=256)
    count, side, _, _ = tiling.sample(model, np.zeros((height, width, 3), np.uint8), 1024).shape
    assert side == min(256, height, width) and 8 <= count <= 16


def test_each_tile_counts_with_its_own_weights():
    """A model that answers with the number of the call, against the sum written out."""
    calls = []

    class Counting(Stand_In):
        def __call__(self, pictures, statistics=None):
            calls.append(statistics)
            return np.full_like(pictures, 20 * len(calls))

    height, width = 150, 131
    found = tiling.translate_in_tiles(Counting(), np.zeros((height, width, 3), np.uint8), 64)
    rows, columns = tiling.spans(height, 64, 16, 4), tiling.spans(width, 64, 16, 4)
    expected, number = np.zeros((height, width)), 0
    for (top, bottom), down in zip(rows, tiling.weights(rows, 16), strict=True):
        for (left, right), across in zip(columns, tiling.weights(columns, 16), strict=True):
            number += 20
            expected[top:bottom, left:right] += number * np.outer(down, across)
    assert calls == [3] * (len(rows) * len(columns)) and len(rows) == len(columns) == 3
    away = np.abs(expected - np.floor(expected) - 0.5) > 1e-3  # from the middle between two levels, where either is right
    assert np.array_equal(found[away], np.repeat(np.rint(expected)[..., None], 3, axis=2)[away])


# --- the sample that statistics are taken of


def coordinates(height: int, width: int, axis: int) -> np.ndarray:
    """A picture of the given size that tells the row, or the column, of each pixel, in base 256; it takes no memory."""
    index = np.arange((height, width)[axis])
    digits = np.stack([index // 256, index % 256, 0 * index], axis=-1).astype(np.uint8)
    return np.broadcast_to(digits[:, None] if axis == 0 else digits[None], (height, width, 3))


def corners(height: int, width: int, tile: int, multiple: int = 4) -> tuple[int, list[tuple[int, int]]]:
    """The side of the sample's squares, and where they begin."""
    parts = [
        tiling.sample(Stand_In(multiple=multiple), coordinates(height, width, axis), tile)[..., :2].astype(int) @ [256, 1]
        for axis in (0, 1)
    ]
    return parts[0].shape[1], list(zip(parts[0][:, 0, 0].tolist(), parts[1][:, 0, 0].tolist(), strict=True))


def test_the_sample_is_squares_in_the_middles_of_equal_parts():
    assert corners(1000, 700, 512) == (128, [(y, x) for y in (36, 236, 436, 636, 836) for x in (53, 286, 519)])
    middles = [round((i + 0.5) * 375 - 128) for i in range(8)]
    assert corners(3000, 3000, 2048) == (256, [(y, x) for y in middles for x in middles])
    assert corners(300, 300, 512) == (128, [(y, x) for y in (0, 86, 172) for x in (0, 86, 172)])
    assert corners(64, 72, 64) == (64, [(0, 0), (0, 8)])
    assert corners(40, 1000, 64)[0] == 40 and corners(43, 1000, 64)[0] == 40 and corners(43, 1000, 64, multiple=1)[0] == 43


@pytest.mark.parametrize("height, width, tile", [(64, 72, 64), (5000, 64, 256), (1000, 700, 512), (5000, 5000, 2048)])
def test_the_sample_is_from_all_over_the_picture_and_no_larger_than_a_tile(height, width, tile):
    side, found = corners(height, width, tile)
    assert side % 4 == 0 and len(found) * side * side <= max(tile, tiling.LEAST) ** 2
    y, x = np.transpose(found)
    for begin, length in ((y, height), (x, width)):
        assert begin.min() >= 0 and begin.max() + side <= length
        assert begin.min() < 0.3 * length and begin.max() + side > 0.7 * length


@pytest.mark.parametrize("height, width", [(1, 300_000), (300_000, 3), (7, 60_000)])
def test_the_thinnest_pictures_have_a_sample_too(height, width):
    count, side, across, _ = tiling.sample(Stand_In(), np.zeros((height, width, 3), np.uint8), 64).shape
    assert side == across and 0 < side <= min(height, width) and count * 8**2 <= tiling.LEAST**2


# --- with a network


@pytest.fixture(scope="module")
def model(model_file):
    return model_files.load(model_file)


def uneven(height: int, width: int) -> np.ndarray:
    """Bright and smooth on one side, dark and busy on the other: parts of it have quite other statistics."""
    x = np.linspace(0, 1, width)[None, :, None]
    return np.uint8(draw(0, height, width) * (0.2 + 0.4 * x) + 100 * (1 - x))


def test_with_its_own_statistics_a_picture_is_translated_as_without(model):
    picture = uneven(48, 80)[None]
    found = model(picture, model.statistics(picture)).astype(int)
    assert np.abs(found - model(picture)).max() <= 1


def test_parts_of_a_picture_together_have_its_statistics(model):
    """But for their borders, which weigh little in a large one."""
    picture = uneven(256, 256)
    whole, parts = (
        model.statistics(picture[None]),
        np.stack([picture[i : i + 128, j : j + 128] for i in (0, 128) for j in (0, 128)]),
    )
    deviation = np.sqrt(whole[1] + 1e-5)

    def distance(parts: np.ndarray) -> float:
        return float(np.abs((model.statistics(parts)[0] - whole[0]) / deviation).mean())

    assert distance(parts) < 0.25 * min(distance(part[None]) for part in parts)


def test_tiles_do_not_show(model):
    """Steps between neighbouring pixels at the borders of tiles are as elsewhere, and the picture is nearly that of one pass."""
    picture = uneven(256, 384)
    whole = model(picture[None])[0].astype(int)
    tiled, blended = (tiling.translate_in_tiles(m, picture, 128) - whole for m in (model, Without(model)))
    assert np.abs(tiled).mean() < 0.4 * np.abs(blended).mean()
    columns = sorted({edge for span in tiling.spans(384, 128, 32, 4) for edge in span} - {0, 384})
    steps = np.abs(np.diff(tiled, axis=1)).mean((0, 2))
    assert max(steps[column - 1] for column in columns) < 1.5 * steps.mean()


class Without:
    """A model that gives no statistics."""

    fixed_size, multiple, smallest = None, 4, 8

    def __init__(self, model):
        self.model = model

    def __call__(self, pictures, statistics=None):
        return self.model(pictures)

    def statistics(self, parts):
        return None


# --- memory


def test_a_tile_takes_half_of_the_free_memory(monkeypatch):
    model = Stand_In()
    for free, metadata, expected in (
        (0, {}, tiling.LEAST),
        (1 << 60, {}, tiling.MOST),
        (2 * 40 * 64 * 1000**2, {}, 1000),
        (2 * 40 * 64 * 1000**2, {"ngf": 16}, 2000),
    ):
        monkeypatch.setattr(tiling, "free_memory", lambda free=free: free)
        model.metadata = metadata
        assert tiling.largest_tile(model) == expected


def test_free_memory_is_that_of_this_machine():
    assert 1 << 20 < tiling.free_memory() < 1 << 50


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:     700 kB\nSwapFree: 3 kB\n"}, 700 * 1024),
        ({"/proc/meminfo": "MemAvailable: 700 kB", "max": "900000", "current": "400000"}, 500_000),
        ({"/proc/meminfo": "MemAvailable: 400 kB", "max": "900000", "current": "400000"}, 400 * 1024),
        ({"/proc/meminfo": "MemAvailable: 700 kB", "max": "max", "current": "400000"}, 700 * 1024),
        ({"max": "4000", "current": "5000"}, 0),
        ({"/proc/meminfo": "MemTotal: 9 kB"}, 4 << 30),
        ({}, 4 << 30),
    ],
)
def test_free_memory_is_the_least_that_is_known(monkeypatch, files, expected):
    def read(file: Path, encoding: str) -> str:
        name = str(file).removeprefix("/sys/fs/cgroup/memory.")
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    monkeypatch.setattr(Path, "read_text", read)
    assert tiling.free_memory() == expected
