"""Large pictures in tiles: everything is covered, nothing counts twice, and no seam shows."""

import numpy as np
import pytest
from conftest import draw

from formats import translator
from generator import Generator
from pictures import tiling


@pytest.mark.parametrize("length", [1, 63, 64, 65, 66, 67, 68, 100, 127, 128, 131, 500, 1001])
@pytest.mark.parametrize("tile, overlap", [(64, 16), (64, 32), (256, 64)])
def test_spans_cover_a_length_evenly_and_share_with_their_neighbours_only(length, tile, overlap):
    spans = tiling.spans(length, tile, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(begin % tiling.STEP == 0 and 0 < end - begin < tile + tiling.STEP for begin, end in spans)
    shared = [end - begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False)]
    assert all(overlap - tiling.STEP <= n for n in shared)
    assert len(spans) == 1 or max(shared) < tile


@pytest.mark.parametrize("length", [50, 65, 128, 1001])
def test_the_weights_add_up_to_one_everywhere(length):
    spans = tiling.spans(length, 64, 16)
    total = np.zeros(length)
    for (begin, end), weights in zip(spans, tiling.weights(spans, 16), strict=True):
        assert weights.shape == (end - begin,) and weights.min() > 0
        assert (weights[0] < 0.05) == (begin > 0) and (weights[-1] < 0.05) == (end < length)
        total[begin:end] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("height, width", [(1, 300_000), (300_000, 3), (7, 60_000)])
def test_the_thinnest_pictures_have_a_sample_too(height, width):
    count, side, across, _ = tiling.sample(np.zeros((height, width, 3), np.uint8), 64).shape
    assert side == across and 0 < side <= min(height, width) and count * 8**2 <= tiling.LEAST**2


class Stand_In:
    """Adds what it knows of the whole picture, and remembers what it was given."""

    def __init__(self, fixed_size=None):
        self.parts, self.sampled, self.fixed_size = [], [], fixed_size

    def __call__(self, pictures, statistics=None):
        self.parts.append(pictures.shape[1:3])
        return pictures + np.uint8(0 if statistics is None else statistics)

    def statistics(self, parts):
        self.sampled.append(parts.shape)
        return 3


@pytest.mark.parametrize("height, width", [(200, 130), (90, 1000), (64, 72), (131, 64)])
def test_a_picture_comes_out_whole_and_where_it_was(height, width):
    picture, model, told = draw(0, height, width) // 2, Stand_In(), []
    translated = tiling.translate_in_tiles(model, picture, 64, lambda done, of: told.append((done, of)))
    assert np.array_equal(translated, picture + 3)
    assert len(model.parts) > 1 and max(h * w for h, w in model.parts) < (64 + tiling.STEP) ** 2
    assert told == [(i + 1, len(model.parts)) for i in range(len(model.parts))]
    ((count, side, across, _),) = model.sampled
    assert side == across and count * side * across <= tiling.LEAST**2


@pytest.mark.parametrize("height, width", [(64, 64), (65, 64), (100, 150), (30, 40), (1, 200)])
def test_a_model_of_one_size_gets_parts_of_that_size(height, width):
    picture, model = draw(0, height, width) // 2, Stand_In(fixed_size=64)
    translated = tiling.translate_in_tiles(model, picture, 1000)
    assert np.array_equal(translated, picture + (3 if max(height, width) > 64 else 0))
    assert set(model.parts) == {(64, 64)}


@pytest.mark.parametrize("height, width", [(64, 64), (32, 128), (10, 409)])
def test_a_picture_that_fits_goes_through_at_once(height, width):
    picture, model = draw(0, height, width) // 2, Stand_In()
    assert np.array_equal(tiling.translate_in_tiles(model, picture, 64), picture)
    assert model.parts == [(height, width)] and not model.sampled


@pytest.mark.parametrize("height, width, tile", [(64, 72, 64), (5000, 64, 256), (1000, 700, 512), (5000, 5000, 2048)])
def test_the_sample_is_from_all_over_the_picture_and_no_larger_than_a_tile(height, width, tile):
    y, x = np.mgrid[:height, :width]
    parts = tiling.sample(np.stack([y // 20, x // 20, 0 * x], axis=-1).astype(np.uint8), tile)
    count, side, across, _ = parts.shape
    assert side == across and side % tiling.STEP == 0 and count * side * side <= max(tile, tiling.LEAST) ** 2
    if count > 3:
        assert parts[..., 0].min() < 0.3 * height / 20 and parts[..., 0].max() > 0.7 * height / 20


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> translator.Translator:
    """A network whose last layer uses all of the range."""
    import keras

    import export_graph

    keras.utils.set_random_seed(0)
    generator = Generator(ngf=4, n_res_blocks=1)
    generator.trainable_weights[-2].assign(3 * generator.trainable_weights[-2])
    file = tmp_path_factory.mktemp("model") / "m.pb"
    export_graph.export(generator, {"image_size": 32, "source": "a", "target": "b", "norm": "instance", "ngf": 4}, file)
    return translator.load(file)


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
    columns = sorted({edge for span in tiling.spans(384, 128, 32) for edge in span} - {0, 384})
    steps = np.abs(np.diff(tiled, axis=1)).mean((0, 2))
    assert max(steps[column - 1] for column in columns) < 1.5 * steps.mean()


class Without:
    """A model that cannot tell statistics."""

    fixed_size = None

    def __init__(self, model):
        self.model = model

    def __call__(self, pictures, statistics=None):
        return self.model(pictures)

    def statistics(self, parts):
        return None


def test_there_is_always_memory_for_a_small_tile(monkeypatch, model):
    for free, expected in ((0, tiling.LEAST), (1 << 60, tiling.MOST)):
        monkeypatch.setattr(tiling, "free_memory", lambda free=free: free)
        assert tiling.fitting(model) == expected
    monkeypatch.undo()
    assert 1 << 20 < tiling.free_memory() < 1 << 50
