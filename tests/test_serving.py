"""What docs/serving.md promises: the signature takes and gives what TensorFlow Serving makes of a request, and of an answer."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from PIL import Image

import inference
from formats import model_files
from formats.translator import Translator
from pictures import images
from system import cli


@pytest.fixture(scope="module")
def translate(model_file) -> Translator:
    return model_files.load(model_file)


@pytest.fixture(scope="module")
def signature(model_file):
    model = tf.saved_model.load(str(model_file))
    return model, model.signatures["translate_encoded"]


def rest(signature, body: str) -> str:
    """The server's side of a request: base64 objects become strings, instances a tensor, and an output ending in _bytes base64 again."""
    request = json.loads(body)
    assert request["signature_name"] == "translate_encoded"
    (name,) = signature[1].structured_input_signature[1]
    rows = [row.get(name, row) for row in request["instances"]]  # a single input may be given without its name
    answer = signature[1](**{name: tf.constant([base64.b64decode(row["b64"]) for row in rows])})
    ((output, values),) = answer.items()
    assert output.endswith("_bytes") and name.endswith("_bytes")
    return json.dumps({"predictions": [{"b64": base64.b64encode(value).decode()} for value in values.numpy()]})


@pytest.mark.parametrize("named", [False, True])
def test_rest(signature, translate, named):
    pictures = [draw(0, 32, 40), draw(1, 50, 24)]
    files = [{"b64": base64.b64encode(images.encode(picture)).decode()} for picture in pictures]
    instances = [{"image_bytes": file} for file in files] if named else files
    answer = json.loads(rest(signature, json.dumps({"signature_name": "translate_encoded", "instances": instances})))
    for picture, row in zip(pictures, answer["predictions"], strict=True):
        assert np.array_equal(images.decode(base64.b64decode(row["b64"])), translate(picture[None])[0])


def test_a_file_of_any_kind_is_translated_as_by_the_command(call, signature, model_file, tmp_path):
    """To the bit: what is transparent stays so."""
    picture = Image.fromarray(draw(3, 30, 41))
    flat, hole = picture.quantize(16), picture.copy()
    hole.putalpha(Image.fromarray(np.uint8(np.arange(30 * 41).reshape(30, 41) // 3)))
    key = {"transparency": flat.getpixel((0, 0))}
    kinds = {"a.jpg": (picture, {"quality": 100}), "b.png": (hole, {}), "c.png": (flat, key), "d.png": (picture.convert("L"), {})}
    kinds |= {"e.png": (picture.convert("1"), {}), "f.gif": (flat, key), "g.gif": (flat, {}), "h.bmp": (flat, {}), "i.bmp": (hole, {})}
    (tmp_path / "in").mkdir()
    for name, (one, options) in kinds.items():
        one.save(tmp_path / "in" / name, **options)
    flags = ["--model", model_file, "--input", tmp_path / "in", "--output", tmp_path / "out", "--keep_size"]
    assert call(inference.main, *flags).status == cli.DONE
    out = signature[1](image_bytes=tf.constant([(tmp_path / "in" / name).read_bytes() for name in kinds]))["output_bytes"].numpy()
    for name, served in zip(kinds, out, strict=True):
        by_command = images.decode_with_alpha((tmp_path / "out" / name).with_suffix(".png").read_bytes())
        for here, there in zip(images.decode_with_alpha(served), by_command, strict=True):
            assert np.array_equal(here, there), name


def test_grpc(signature, translate):
    """A request's tensor is a TensorProto, and so is the answer's."""
    picture = draw(2, 40, 32)
    request = tf.make_tensor_proto([images.encode(picture)])
    assert request.dtype == tf.string.as_datatype_enum and request.tensor_shape.dim[0].size == 1
    answer = tf.make_tensor_proto(signature[1](image_bytes=tf.constant(tf.make_ndarray(request)))["output_bytes"].numpy())
    translated = images.decode(tf.make_ndarray(answer)[0])
    assert np.array_equal(translated, translate(picture[None])[0])


def test_batches_can_be_joined_and_divided(signature):
    """Both have the pictures as their first dimension, of any number."""
    for tensor in (*signature[1].structured_input_signature[1].values(), *signature[1].structured_outputs.values()):
        assert tensor.dtype == tf.string and tensor.shape.as_list() == [None]
    files = [images.encode(draw(seed, 32, 32)) for seed in range(3)]
    joined = signature[1](image_bytes=tf.constant(files))["output_bytes"].numpy()
    assert [*joined] == [signature[1](image_bytes=tf.constant([file]))["output_bytes"].numpy()[0] for file in files]


def test_what_is_no_picture_fails_its_request(signature):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signature[1](image_bytes=tf.constant([b"no picture"]))
