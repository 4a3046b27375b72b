"""The models that ship: they are whole, small, say where they come from, and turn apples into oranges, and back, at any size."""

import colorsys
import functools
from pathlib import Path

import numpy as np
import pytest

import inference
import sample_data
from formats import checksums, model_files
from pictures import images

PRETRAINED = Path(__file__).parent.parent / "pretrained"
MODELS = {"apple2orange": ("apple", "orange"), "orange2apple": ("orange", "apple")}


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_files, "load", functools.cache(model_files.load))
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "few"
    sample_data.main(["--output_dir", str(folder), "--size", "128", "--n_train", "1", "--n_test", "2"])
    return folder


def share_of_orange(pictures: list[np.ndarray]) -> float:
    """The share of pixels of a clear orange; of apples it is small, as they may be red, yellow or green."""
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])[::7] / 255
    hue, saturation, value = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).T
    return float(np.mean((hue * 360 > 15) & (hue * 360 < 45) & (saturation > 0.5) & (value > 0.3)))


def test_they_are_small_enough_to_clone():
    files = [file for name in MODELS for file in (PRETRAINED / f"{name}.pb").rglob("*") if file.is_file()]
    assert len(files) >= 4 and sum(file.stat().st_size for file in files) < 20e6


@pytest.mark.parametrize("name", MODELS)
def test_damage_to_them_would_be_noticed(name):
    assert (PRETRAINED / f"{name}.pb" / checksums.SUMS).is_file()


@pytest.mark.parametrize("name", MODELS)
def test_they_say_what_they_are(name):
    model = model_files.load(PRETRAINED / f"{name}.pb")
    assert (model.metadata["source"], model.metadata["target"]) == MODELS[name]
    card = (PRETRAINED / "README.md").read_text()
    assert f"{model.metadata['step']:,}" in card and f"{model.image_size} pixels" in card and f"{name}.pb" in card


@pytest.mark.parametrize(("name", "folder"), [("apple2orange", "testA"), ("orange2apple", "testB")])
def test_fruit_changes_its_colour(call, drawn, tmp_path, name, folder):
    argv = ["--model", PRETRAINED / f"{name}.pb", "--input", drawn / folder, "--output", tmp_path]
    assert call(inference.main, *argv).status == 0
    before, after = ([images.read(file) for file in images.find(place)] for place in (drawn / folder, tmp_path))
    change = share_of_orange(after) - share_of_orange(before)
    assert change > 0.15 if folder == "testA" else change < -0.15


@pytest.mark.parametrize(("height", "width"), [(90, 160), (300, 201)])
def test_whole_photos_keep_their_aspect(call, tmp_path, height, width):
    images.write(tmp_path / "in.jpg", np.full((height, width, 3), 128, np.uint8))
    call(inference.main, "--model", PRETRAINED / "apple2orange.pb", "--input", tmp_path / "in.jpg", "--output", tmp_path / "out.png")
    size = model_files.load(PRETRAINED / "apple2orange.pb").image_size
    assert images.read(tmp_path / "out.png").shape[:2] == images.with_short_side(height, width, size)
