"""Drawn pictures: two kinds of fruit, unlike in shape and surface, and true pairs."""

import dataclasses

import numpy as np
import pytest

from pictures import images
from pictures.fruit import draw
from pictures.scenes import SPLITS, Fruit, Scene, scene

SLATE = ("plain", "#44507a", "#44507a", 1.0)
# One upright fruit without a leaf, on blue that no fruit has.
PLAIN = Scene((Fruit(0, -0.1, 0.7, 0, 0.55, 0),), 0.5, 0.5, (0.8, 0.9), SLATE, SLATE, 0)


KEPT = {  # by the domain and the number of the test picture
    "A": [
        "76794d9f7049866a5d846b5d994e2fbb634b867d4ab26b4e6428246d2121c04d3dbf3c3da0473d78362f64211f973b34",
        "a8765597905eb39b80b895798d3830b4764f925c3ca7714f582e2baa834e943f2d8133323a2e29681f20613d37584c42",
        "b4b48ebb9f78d3ad93d6c1a88b7439a38545d1644ad3b8a1862325c13f3da92a30d7be9f68584d4f23218a6b5bd1be9f",
        "9f503b8a5838863d35813a33c0524aa84a3296683c747445754d31742221b86c4b86582f7e8d4b6f713e6825204c2d20",
    ],
    "B": [
        "7b7d4dc18746886e5d846b5dc58227e7a54fad9046c06f48773f21905a1cefa140ee9a3ea0473d7b3a2e8c501bac5a30",
        "c18e52a99961b39c80b89579b77623da9c46af8639c48d4b6e4e25daa349bf7924b07732463727945f1d6e5435584c42",
        "b4b48ed7b37fdbbd9ad6c1a8a88c33eeaf52f9a942d7bea0b4751eeb9c3fe6962ed8be96725f437b511b9e7d4ed1be9f",
        "a75938ab6435873d34813a33f2a64ad58a2fa8793374754599752b9f681cf4ad53a16f1f7e8d4b797a3c95611b634919",
    ],
}


def distance(scene: Scene, size: int) -> np.ndarray:
    """How far the middle of each pixel is from the nearest fruit, in radii of that fruit."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(line, -line)
    return np.min([np.hypot(x - f.x, y - f.y) / f.radius for f in scene.fruits], axis=0)


def silhouette(domain: str) -> np.ndarray:
    picture = draw(PLAIN, domain, 128).astype(int)
    return picture[..., 0] > picture[..., 2]


def test_a_scene_looks_the_same_at_every_size():
    for domain in "AB":
        large, small = (draw(scene(0, "test", 0), domain, size) for size in (128, 64))
        assert np.abs(images.resize(large, 64, 64).astype(int) - small).mean() < 4


@pytest.mark.parametrize(("index", "domain"), [(index, domain) for index in range(4) for domain in "AB"])
def test_pictures_stay_what_they_were(index, domain):
    """Models were trained on them. Of each, the mean colours of its sixteenths; processors differ a little."""
    blocks = draw(scene(0, "test", index), domain, 32).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(blocks.ravel(), np.frombuffer(bytes.fromhex(KEPT[domain][index]), np.uint8), atol=0.7)


@pytest.mark.parametrize("index", range(6))
def test_pairs_share_all_but_the_fruit(index):
    pair = scene(1, "test", index)
    apples, oranges = (draw(pair, domain, 64).astype(int) for domain in "AB")
    difference, away = np.abs(apples - oranges).mean(axis=2), distance(pair, 64)
    assert (away > 1.4).sum() > 40 and not difference[away > 1.4].any()
    assert difference[away < 0.9].mean() > 25


def test_training_sets_are_unpaired():
    fruits = {scene(0, split, index).fruits for split in SPLITS for index in range(20)}
    assert len(fruits) == 60


def test_fruit_lie_on_the_table_apart_and_in_the_picture():
    for index in range(300):
        s = scene(2, "trainA", index)
        sin, cos = np.sin(s.elevation), np.cos(s.elevation)
        centres = np.array([[f.x, f.y, (f.radius - f.y * cos) / sin] for f in s.fruits])
        radii = np.array([f.radius for f in s.fruits])
        assert np.all(np.abs(centres[:, :2]) + radii[:, None] < 1.06)  # or nearly so
        wall = centres @ [0, -sin, cos] + s.horizon / sin  # how far each centre is in front of it
        assert np.all(wall > radii)
        for i in range(len(radii)):
            for j in range(i):
                assert np.linalg.norm(centres[i] - centres[j]) > radii[i] + radii[j]


def test_shapes_differ_but_overlap():
    apple, orange = silhouette("A"), silhouette("B")
    assert (apple & orange).sum() / (apple | orange).sum() > 0.85
    middle, third = 64 + 6, 15  # pixels: the centre's row (y is -0.1), a third of the radius
    for outline, low, high in (apple, 1.06, 1.5), (orange, 0.97, 1.03):
        shoulders, base = outline[middle - third].sum(), outline[middle + third].sum()
        assert low < shoulders / base < high


def test_surfaces_differ_in_more_than_colour():
    def relief(domain):  # how brightness changes across and along the axis, below the highlight
        grey = draw(PLAIN, domain, 128)[70:100, 35:93].mean(axis=2)
        return np.abs(np.diff(grey, n=2, axis=1)).mean(), np.abs(np.diff(grey, n=2, axis=0)).mean()

    apple, orange = relief("A"), relief("B")
    assert apple[0] > 1.5 * apple[1]  # streaks run from stem to base
    assert min(orange) > 5 and orange[0] < orange[1]  # pores run nowhere, but the lamp is above them
    whitest = {domain: draw(PLAIN, domain, 128)[distance(PLAIN, 128) < 0.9].min(axis=1).max() for domain in "AB"}
    assert whitest["A"] > whitest["B"] + 50  # gloss


def test_fruit_have_no_secret():
    other = dataclasses.replace(PLAIN, grain=1)
    inside = distance(PLAIN, 64) < 0.85
    for domain in "AB":
        here, there = draw(PLAIN, domain, 64), draw(other, domain, 64)
        np.testing.assert_array_equal(here[inside], there[inside])
        assert (here[~inside] != there[~inside]).any()


@pytest.mark.parametrize("source, target", ["AB", "BA"])
def test_no_colour_change_translates(source, target):
    scenes = [scene(0, "test", index) for index in range(24)]
    x, y = (np.concatenate([draw(s, domain, 32).reshape(-1, 3) for s in scenes]) / 255 for domain in (source, target))
    terms = np.hstack([x, np.ones((len(x), 1))])
    best = np.clip(terms @ np.linalg.lstsq(terms, y, rcond=None)[0], 0, 1)
    untranslated = np.abs(x - y).mean()
    assert untranslated > 0.05
    assert np.abs(best - y).mean() >= 0.6 * untranslated
