"""The drawn picture set: two kinds unlike in shape and surface, true pairs, equal for equal seeds, whole or not at all."""

import dataclasses
import errno

import numpy as np
import pytest
from conftest import snapshot

import sample_data
from pictures import fruit, images
from pictures.fruit import Fruit, Scene, draw, scene
from sample_data import main

SMALL = ("--size", 32, "--n_train", 3, "--n_test", 2)
SLATE = ("plain", "#44507a", "#44507a", 1.0)
# One upright fruit without a leaf, on blue that no fruit has.
PLAIN = Scene((Fruit(0, -0.1, 0.7, 0, 0.55, 0),), 0.5, 0.5, (0.8, 0.9), SLATE, SLATE, 0)


def distance(scene: Scene, size: int) -> np.ndarray:
    """How far the middle of each pixel is from the nearest fruit, in radii of that fruit."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(line, -line)
    return np.min([np.hypot(x - f.x, y - f.y) / f.radius for f in scene.fruits], axis=0)


def silhouette(domain: str) -> np.ndarray:
    picture = draw(PLAIN, domain, 128).astype(int)
    return picture[..., 0] > picture[..., 2]


def test_set_is_a_function_of_the_seed(call, tmp_path):
    for folder, seed in ("a", 5), ("b", 5), ("c", 6):
        assert call(main, "--output_dir", tmp_path / folder, "--seed", seed, *SMALL).status == 0
    a, b, c = (snapshot(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a.keys() == c.keys() and all(a[name] != c[name] for name in a)


def test_longer_set_begins_with_the_shorter(call, tmp_path):
    call(main, "--output_dir", tmp_path / "long", *SMALL)
    call(main, "--output_dir", tmp_path / "short", "--size", 32, "--n_train", 2, "--n_test", 1)
    long, short = snapshot(tmp_path / "long"), snapshot(tmp_path / "short")
    assert len(short) == 6 and short.items() < long.items()


def test_files_sizes_and_summary(call, tmp_path):
    outcome = call(main, "--output_dir", tmp_path / "new" / "fruit", "--size", 36, "--n_train", 2, "--n_test", 1)
    assert outcome.status == 0 and outcome.out.count("\n") == 1 and str(tmp_path / "new" / "fruit") in outcome.out
    assert outcome.err == ""
    names = [f.relative_to(tmp_path / "new" / "fruit").as_posix() for f in images.find(tmp_path / "new" / "fruit")]
    assert names == [f"{name}.png" for name in ("testA/0000", "testB/0000", "trainA/0000", "trainA/0001", "trainB/0000", "trainB/0001")]
    for folder, split in ("trainA", "trainA"), ("trainB", "trainB"), ("testA", "test"), ("testB", "test"):
        picture = images.read(tmp_path / "new" / "fruit" / folder / "0000.png")
        assert picture.shape == (36, 36, 3)
        np.testing.assert_array_equal(picture, draw(scene(0, split, 0), folder[-1], 36))


def test_a_scene_looks_the_same_at_every_size():
    for domain in "AB":
        large, small = (draw(scene(0, "test", 0), domain, size) for size in (128, 64))
        assert np.abs(images.resize(large, 64, 64).astype(int) - small).mean() < 4


@pytest.mark.parametrize("index", range(6))
def test_pairs_share_all_but_the_fruit(index):
    pair = scene(1, "test", index)
    apples, oranges = (draw(pair, domain, 64).astype(int) for domain in "AB")
    difference, away = np.abs(apples - oranges).mean(axis=2), distance(pair, 64)
    assert (away > 1.4).sum() > 40 and not difference[away > 1.4].any()
    assert difference[away < 0.9].mean() > 25


def test_training_sets_are_unpaired():
    fruits = {scene(0, split, index).fruits for split in fruit.SPLITS for index in range(20)}
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


@pytest.mark.parametrize(
    "flag, value", [("--size", 34), ("--size", 28), ("--size", "big"), ("--n_train", -1), ("--n_train", 0), ("--n_test", 0), ("--seed", -1)]
)
def test_bad_numbers_are_refused(call, tmp_path, flag, value):
    call(main, "--output_dir", tmp_path / "fruit", *SMALL, flag, value).assert_refused(flag, str(value))
    assert not any(tmp_path.iterdir())


def test_what_exists_is_not_replaced_unasked(call, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    file.write_text("sir")
    before = snapshot(tmp_path)
    call(main, "--output_dir", folder, *SMALL).assert_refused("--output_dir", str(folder), "--overwrite")
    call(main, "--output_dir", file, *SMALL, "--overwrite").assert_refused("--output_dir", str(file))
    assert snapshot(tmp_path) == before


def test_overwrite_replaces_its_own_folders_only(call, tmp_path):
    call(main, "--output_dir", tmp_path / "new", *SMALL)
    for name in "letter.txt", "other/trainA.png", "trainA/0009.png", "testB/0000.png":
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text("old")
    assert call(main, "--output_dir", tmp_path / "old", *SMALL, "--overwrite").status == 0
    foreign = {"letter.txt": b"old", "other/trainA.png": b"old"}
    assert snapshot(tmp_path / "old") == snapshot(tmp_path / "new") | foreign
    assert {f.name for f in (tmp_path / "old").iterdir()} == {"letter.txt", "other", *sample_data.FOLDERS}


def test_an_empty_folder_is_filled(call, tmp_path):
    assert call(main, "--output_dir", tmp_path, *SMALL).status == 0
    assert {f.name for f in tmp_path.iterdir()} == set(sample_data.FOLDERS)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_set_that_fails_leaves_all_as_it_was(call, tmp_path, monkeypatch, overwrite):
    output = tmp_path / "fruit"
    if overwrite:
        call(main, "--output_dir", output, *SMALL, "--seed", 1)
    before, write = sorted(tmp_path.rglob("*")), images.write
    content = snapshot(tmp_path)

    def full(file, picture):
        if file.parent.name == "testB":
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        write(file, picture)

    monkeypatch.setattr(images, "write", full)
    outcome = call(main, "--output_dir", output, *SMALL, *["--overwrite"] * overwrite)
    assert outcome.status == 1 and outcome.err.count("\n") == 1 and "No space left" in outcome.err
    assert sorted(tmp_path.rglob("*")) == before and snapshot(tmp_path) == content
