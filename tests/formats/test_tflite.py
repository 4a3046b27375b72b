"""TensorFlow Lite files run anywhere, and smaller on request. That loading one says nothing, test_saved_model.py shows."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from tensorflow.lite.tools import flatbuffer_utils
from untrained import EACH_UNET, Shallow, assert_translates, unet

from formats import model_files, tflite
from generator import Generator
from system.cli import InputError

METADATA = {"image_size": 32, "source": "red", "target": "blue"}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("tflite") / "red2blue.tflite"
    tflite.write(Generator(2, 0), {**METADATA, "smallest": 8, "multiple": 4}, file)
    return file


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_it_runs_without_any_code_of_the_project(file):
    interpreter = tf.lite.Interpreter(str(file))
    (there,), (back,) = interpreter.get_input_details(), interpreter.get_output_details()
    plain = model_files.load(file)
    for shape in ((1, 32, 32, 3), (2, 24, 40, 3)):
        some = np.stack([draw(seed, *shape[1:3]) for seed in range(shape[0])])
        interpreter.resize_tensor_input(there["index"], shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(there["index"], some.astype(np.float32) / 127.5 - 1)
        interpreter.invoke()
        translated = (interpreter.get_tensor(back["index"]) + 1) * 127.5
        assert np.abs(translated - plain(some)).max() < 1


@EACH_UNET
def test_a_unet_translates_the_same(tmp_path, norm, upsample):
    generator = unet(norm, upsample)
    tflite.write(generator, {**METADATA, "multiple": 8, "smallest": 8}, tmp_path / "model")
    assert_translates(model_files.load(tmp_path / "model"), generator)


@pytest.mark.parametrize(("quantize", "levels"), [("float16", 3), ("int8", 60)])
def test_a_unet_of_fewer_bits(tmp_path, quantize, levels):
    generator = unet("batch", "transpose", ngf=16)
    tflite.write(generator, {**METADATA, "multiple": 8, "smallest": 8, "quantize": quantize}, tmp_path / "model")
    assert_translates(model_files.load(tmp_path / "model"), generator, levels)
    assert (tmp_path / "model").stat().st_size < (2.5 if quantize == "float16" else 1.5) * generator.count_params()


def test_weights_of_fewer_bits_take_less_room(tmp_path):
    generator, size = Shallow(64), {}
    for name, more in (("whole", {}), ("float16", {"quantize": "float16"}), ("int8", {"quantize": "int8"})):
        tflite.write(generator, {**METADATA, **more}, tmp_path / name)
        size[name] = (tmp_path / name).stat().st_size
    assert 0.5 < size["float16"] / size["whole"] < 0.6 and size["int8"] / size["whole"] < 0.4


@pytest.mark.parametrize(("size", "before"), [(3, 0), (4, 1)])
def test_an_upconvolution_in_subpixels_is_the_transposed_one(size, before):
    x, kernel = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in ((2, 3, 5, 4), (size, size, 2, 4)))
    expected = tf.nn.conv2d_transpose(x, kernel, (2, 4 + size, 8 + size, 2), 2, "VALID")[:, 1:7, 1:11]
    padded = np.pad(x, [(0, 0), (before, 1), (before, 1), (0, 0)])
    ours = tf.nn.depth_to_space(tf.nn.conv2d(padded, tflite.subpixels(kernel), 1, "VALID"), 2)
    ours = ours[:, 1:-1, 1:-1] if before else ours
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_operations_that_are_not_tensorflow_lites_are_refused(file, tmp_path):
    model = flatbuffer_utils.read_model(str(file))
    code, custom = model.operatorCodes[0], flatbuffer_utils.schema_fb.BuiltinOperator.CUSTOM
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = custom, custom, "FlexWriteFile"
    flatbuffer_utils.write_model(model, str(tmp_path / "flex.tflite"))
    with pytest.raises(InputError, match="holds FlexWriteFile, which pictures do not need; .*--trust_model"):
        model_files.load(tmp_path / "flex.tflite")
    with pytest.raises(InputError, match="damaged TensorFlow Lite model"):  # as it is: WriteFile takes no pictures
        model_files.load(tmp_path / "flex.tflite", trust=True)
