"""Pictures become the vectors that their network makes of them, at its size and in its range."""

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
    """With random weights, which need no network."""
    plain = keras.applications.InceptionV3
    keras.utils.set_random_seed(0)
    network = plain(include_top=False, pooling="avg", weights=None)
    monkeypatch.setattr(
        keras.applications, "InceptionV3", lambda **asked: network if asked == {"include_top": False, "pooling": "avg"} else 0
    )
    found = features.inception()
    expected = network(keras.applications.inception_v3.preprocess_input(images.resize(PICTURES[0], 299, 299)[None].astype("float32")))
    vectors = found(PICTURES[:1])
    assert vectors.shape == (1, 2048) and "ImageNet" in found.name and "not those" in found.name
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)


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


def test_what_is_no_model_is_refused(tmp_path, model_file):
    with pytest.raises(InputError, match="--features .*nowhere: no SavedModel"):
        features.load(tmp_path / "nowhere")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "saved_model.pb").write_text("damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        features.load(tmp_path / "damaged")
    with pytest.raises(InputError, match="takes input_image and returns output_image"):  # a translator
        features.load(model_file)
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None, 8), tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "vectors"), {"serving_default": module.serve})
    with pytest.raises(InputError, match="needs square pictures"):
        features.load(tmp_path / "vectors")
