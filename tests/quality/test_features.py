"""Pictures become the vectors that their network makes of them, at its size and in its range."""

import inspect
import os
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, save_features

from pictures import images
from quality import features
from system.cli import InputError

PICTURES = [draw(i, 20 + i, 30) for i in range(5)]


def quarters(picture: np.ndarray) -> np.ndarray:
    half = picture.shape[0] // 2
    return np.concatenate([picture[y : y + half, x : x + half].mean((0, 1)) for y in (0, half) for x in (0, half)])


@pytest.mark.parametrize(("dtype", "side", "resized", "scale"), [("uint8", 8, 8, 1), ("float32", 8, 8, 255), ("float16", None, 299, 255)])
def test_a_network_gets_pictures_as_it_wants_them(tmp_path, monkeypatch, dtype, side, resized, scale):
    monkeypatch.setattr(features, "BATCH", 2)  # the last has one
    found = features.load(save_features(tmp_path / "quarters", dtype, side))
    vectors = found(iter(PICTURES))
    expected = [quarters(images.resize(picture, resized, resized)) / scale for picture in PICTURES]
    assert (vectors.shape, vectors.dtype, found.name) == ((5, 12), np.float32, str(tmp_path / "quarters"))
    np.testing.assert_allclose(vectors, expected, rtol=2e-3 if dtype == "float16" else 1e-5)


def test_no_picture_is_judged_by_pixels_that_it_cannot_have(features_file):
    found = features.load(features_file)
    tiny = features.Features(found.name, found.side, found.network, first_side=2)
    expected = [quarters(images.resize(images.resize(picture, 2, 2), 8, 8)) for picture in PICTURES]
    np.testing.assert_allclose(tiny(PICTURES), expected, rtol=1e-5)
    assert np.abs(tiny(PICTURES) - found(PICTURES)).max() > 1


def test_inception_gets_its_own_range_and_size(monkeypatch):
    """Without its weights, which need a network to fetch: means in their place."""
    asked, plain, means = [], inspect.signature(keras.applications.InceptionV3), lambda pictures: pictures.mean(axis=(1, 2))

    def network(*args, **settings):
        asked.append(plain.bind(*args, **settings).arguments)
        return types.SimpleNamespace(predict_on_batch=means)

    monkeypatch.setattr(keras.applications, "InceptionV3", network)
    found = features.inception()
    vectors = found(PICTURES)
    resized = np.stack([images.resize(picture, 299, 299) for picture in PICTURES])
    np.testing.assert_allclose(vectors, means(keras.applications.inception_v3.preprocess_input(resized.astype("float32"))), atol=1e-6)
    assert asked == [{"include_top": False, "pooling": "avg"}]
    assert "ImageNet" in found.name and "not those" in found.name and found.first_side is None


@pytest.mark.parametrize("fetches", [True, False])
def test_of_a_download_one_line_tells(monkeypatch, capsys, fetches):
    def network(**_):
        for text in ("Downloading data from https://host/x.h5\n", "\x1b[1m1/3\x1b[0m", "\x08\x08 3/3\n") if fetches else ():
            keras.src.utils.io_utils.print_msg(text, line_break=False)

    monkeypatch.setattr(keras.applications, "InceptionV3", network)
    features.inception()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "fetching the weights of InceptionV3, 88 MB, which Keras keeps\n" if fetches else "")


def test_weights_that_cannot_be_fetched_are_told(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://host/x.h5: None -- [Errno -3] Name\nresolution")

    monkeypatch.setattr(keras.applications, "InceptionV3", fail)
    with pytest.raises(InputError, match="^--features: Keras cannot fetch .*URL fetch failure.*name a SavedModel of features$"):
        features.inception()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"outputs": lambda v: {"a": v, "b": v}}, "one input, and one output"),
        ({"outputs": lambda v: {"a": v[:, :, None]}}, "one input, and one output"),
        ({"dtype": "int32"}, "int32"),
    ],
)
def test_other_models_are_refused(tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        features.load(save_features(tmp_path / "wrong", **wrong))


def test_a_network_can_lie_in_a_folder_of_any_name(features_file, tmp_path):
    """TensorFlow takes the names of folders for patterns."""
    folder = shutil.copytree(features_file, tmp_path / "a[1]*?" / "b\\c")
    assert np.array_equal(features.load(folder)(PICTURES), features.load(features_file)(PICTURES))


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="--features .*nowhere: no SavedModel"):
        features.load(tmp_path / "nowhere")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "saved_model.pb").write_text("damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        features.load(tmp_path / "damaged")
    for change, shape, dtype, words in (
        (lambda input_image: {"output_image": input_image}, (None, None, None, 3), tf.uint8, "takes input_image and returns output_image"),
        (lambda x: {"y": x}, (None, 8), tf.float32, "needs square pictures"),
        (lambda x: {"y": x[:, 0, 0]}, (None, 8, 9, 3), tf.float32, "needs square pictures"),
        (lambda x: {"y": x[:, 0, 0]}, (None, 8, 8, 4), tf.float32, "needs square pictures"),
        (lambda x: {"y": x[:, 0, 0]}, (1, 8, 8, 3), tf.float32, "needs square pictures"),
    ):
        module = tf.Module()
        module.serve = tf.function(change, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)
        tf.saved_model.save(module, str(tmp_path / "other"), {"serving_default": module.serve})
        with pytest.raises(InputError, match=words):
            features.load(tmp_path / "other")


def test_nobody_waits_for_a_pipe_in_a_network(features_file, tmp_path):
    file = Path(shutil.copytree(features_file, tmp_path / "network"))
    (file / "variables" / "variables.index").unlink()
    os.mkfifo(file / "variables" / "variables.index")
    with pytest.raises(InputError, match=f"--features {file}: damaged: variables/variables.index in it is a pipe or a device"):
        features.load(file)
