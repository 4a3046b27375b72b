"""A SavedModel stands alone, holds its weights once, and knows what a part of a picture needs of the whole."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from untrained import EACH_UNET, Shallow, assert_translates, shuffled, unet

from formats import model_files, saved_model, tflite
from formats.translator import Translator
from generator import Generator
from networks.layers import InstanceNormalization
from pictures import images
from system.devices import number_type
from utils import convert2float, convert2int

ROOT = Path(saved_model.__file__).parent.parent
METADATA = {"image_size": 32, "generator": "resnet", "source": "red", "target": "blue"}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return shuffled(Generator(2, 1, "instance", "transpose"), 0)


@pytest.fixture(scope="module")
def folder(generator, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "red2blue.pb"
    saved_model.write(generator, METADATA, folder)
    return folder


@pytest.fixture(scope="module")
def signatures(folder):
    """What the model can be asked; it lives as long as the fixture."""
    model = tf.saved_model.load(str(folder))
    yield model.signatures


@pytest.fixture(scope="module")
def model(folder) -> Translator:
    return model_files.load(folder)


def plainly(generator: Generator, some: np.ndarray) -> np.ndarray:
    """What the training graph makes of pictures, uint8 (B, H, W, 3)."""
    return convert2int(generator(convert2float(some), training=False)).numpy()


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1  # rounding


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory) -> SimpleNamespace:
    """A process of its own, in which two models are loaded: what is said meanwhile, and what the first makes of a picture.

    That is a SavedModel, before any code of the project is there, which then loads the second, of TensorFlow Lite.
    """
    place = tmp_path_factory.mktemp("alone")
    np.save(place / "picture.npy", draw(0, 32, 40))
    tflite.write(Shallow(2), {**METADATA, "smallest": 8, "multiple": 4}, place / "m.tflite")
    code = f"""
import sys
import numpy as np, tensorflow as tf
print("loading", flush=True, file=sys.stderr)
model = tf.saved_model.load({str(folder)!r})
picture = tf.constant(np.load("picture.npy")[None])
np.save("translated.npy", model.signatures["serving_default"](input_image=picture)["output_image"][0])
print("loading", flush=True, file=sys.stderr)
sys.path.append({str(ROOT)!r})
from formats import model_files
model_files.load("m.tflite")
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=place, check=True, capture_output=True, text=True)
    _, first, second = done.stderr.split("loading\n")
    return SimpleNamespace(first=first, second=second, out=done.stdout, translated=np.load(place / "translated.npy"))


def test_it_runs_without_any_code_of_the_project_and_without_a_warning(alone, generator):
    assert "gradient" not in alone.first
    assert_same(alone.translated, plainly(generator, draw(0, 32, 40)[None])[0])


def test_loading_a_tensorflow_lite_file_says_nothing(alone):
    """In a process of its own: what the interpreter says it says once."""
    assert (alone.out, alone.second) == ("", "")


def test_the_weights_are_stored_once(tmp_path, monkeypatch):
    """In half the room with float16, and not in the graph, where each function would have a copy of them in memory."""
    monkeypatch.setattr(saved_model, "check", lambda *_, **__: None)
    large, size = Shallow(512), {}
    for name, more in (("whole", {}), ("half", {"quantize": "float16"})):
        saved_model.write(large, {**METADATA, **more}, tmp_path / name)
        files = list((tmp_path / name / "variables").iterdir())
        size[name] = sum(file.stat().st_size for file in files) / large.count_params()
        assert (tmp_path / name / "saved_model.pb").stat().st_size < 400_000
    assert 4 < size["whole"] < 4.2 and 1.9 < size["whole"] - size["half"] < 2.1  # bytes for each


def test_weights_of_half_the_size_make_nearly_the_same_picture(generator, model):
    functions = saved_model.Functions(generator, {**METADATA, "quantize": "float16"}).signatures()
    some = draw(5, 80, 64)[None]
    off = np.abs(model(some).astype(int) - functions["serving_default"](some)["output_image"].numpy())
    assert off.max() > 0 and off.mean() < 1
    assert json.loads(functions["metadata"]()["metadata"].numpy())["quantize"] == "float16" and "quantize" not in model.metadata


@pytest.mark.parametrize(("height", "width", "mode"), [(30, 61, "reflect"), (5, 9, "reflect"), (8, 8, "edge"), (4, 3, "edge")])
def test_any_size_is_padded_inside_and_cut_again(model, generator, height, width, mode):
    some = np.stack([draw(1, height, width), draw(2, height, width)])
    below, right = (max(-n % 4, 8 - n) for n in (height, width))
    padded = np.pad(some, [(0, 0), (0, below), (0, right), (0, 0)], mode)
    assert_same(model(some), plainly(generator, padded)[:, :height, :width])


def test_encoded_pictures_of_several_sizes_come_back_as_png(signatures, model):
    pictures = [draw(2, 16, 24), draw(3, 33, 20)]
    encoded = tf.constant([images.encode(p) for p in pictures])
    out = signatures["translate_encoded"](image_bytes=encoded)["output_bytes"].numpy()
    for picture, file in zip(pictures, out, strict=True):
        assert file.startswith(b"\x89PNG")
        assert np.array_equal(images.decode(file), model(picture[None])[0])


def test_statistics_are_those_of_all_parts_together(model, generator):
    """Computed here one layer after another, from the formula."""
    parts = np.stack([draw(seed, 16, 24) for seed in range(3)])
    taken, values = [], {id(generator.input): convert2float(parts).numpy()}
    for layer in generator.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [values[id(x)] for x in inputs]
        if isinstance(layer, InstanceNormalization):
            (x,) = inputs
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            taken.append([mean, variance])
            y = (x - mean) / np.sqrt(variance + 1e-5) * layer.gamma.numpy() + layer.beta.numpy()
        else:
            y = layer(inputs if len(inputs) > 1 else inputs[0]).numpy()
        values[id(layer.output)] = y
    expected = np.concatenate(taken, axis=1)
    found = model.statistics(parts)
    assert found.shape == (2, 2 + 4 + 8 * 3 + 4 + 2)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # With them each part is translated as if it were normalised with the others.
    assert_same(model(parts, found), convert2int(values[id(generator.output)]).numpy())
    assert np.abs(model(parts, found).astype(int) - model(parts)).mean() > 3


def test_parts_of_one_picture_are_translated_as_the_picture(model):
    """With the statistics of the whole, where the network does not see beyond the part."""
    picture = draw(7, 96, 96)
    statistics = model.statistics(picture[None])
    whole, part = model(picture[None])[0], model(picture[None, :64, :64], statistics)[0]
    assert_same(part[:32, :32], whole[:32, :32])
    odd = model(picture[None, :63, :61], statistics)[0]
    assert odd.shape == (63, 61, 3)
    assert_same(odd[:32, :32], whole[:32, :32])


def test_batch_normalisation_uses_its_averages_and_has_no_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "check", lambda *_, **__: None)  # the pictures are compared here
    generator = shuffled(Shallow(2, "batch"), 1)
    saved_model.write(generator, {**METADATA, "norm": "batch"}, tmp_path / "m.pb")
    model, some = model_files.load(tmp_path / "m.pb"), draw(0, 16, 16)[None]
    assert not model.knows_statistics and model.statistics(some) is None and not model.sees_whole_pictures
    assert plainly(generator, some).std() > 10
    assert_same(model(some), plainly(generator, some))


@EACH_UNET
def test_a_unet_translates_the_same(norm, upsample):
    generator = unet(norm, upsample)
    functions = saved_model.Functions(generator, METADATA).signatures()
    assert_translates(lambda some: functions["serving_default"](some)["output_image"].numpy(), generator)
    assert ("statistics" in functions) == (norm in ("instance", "picture"))


def test_a_unets_statistics_are_of_all_parts():
    """One part that is the picture is translated as the picture; and all of a picture's parts give all norms the same as it does."""
    functions, picture = saved_model.Functions(unet("picture", "transpose"), METADATA).signatures(), draw(7, 32, 32)

    def statistics(*parts: np.ndarray) -> tf.Tensor:
        return functions["statistics"](np.stack(parts))["statistics"]

    found = statistics(picture)
    assert found.shape == (2, 8 + 8 + 4)
    translated, part = functions["serving_default"](picture[None]), functions["translate_part"](picture[None], found)
    assert_same(part["output_image"].numpy(), translated["output_image"].numpy())
    np.testing.assert_allclose(statistics(picture, picture), found, rtol=1e-3, atol=1e-5)
    assert not np.allclose(statistics(picture, 255 - picture), found, rtol=0.1)


@pytest.mark.parametrize("difference", [0, 1, 2])
def test_a_model_that_differs_from_its_generator_is_not_kept(generator, tmp_path, monkeypatch, difference):
    def load(folder):
        return lambda some: np.where(plainly(generator, some) > 127, -1, 1) * difference + plainly(generator, some)

    monkeypatch.setattr(saved_model, "load", load)
    monkeypatch.setattr(tf.saved_model, "save", lambda module, folder, signatures: Path(folder).mkdir())
    if difference < 2:
        model_files.write([(generator, METADATA, tmp_path / "m.pb")])
    else:
        with pytest.raises(RuntimeError, match="differs from the checkpoint by up to 2 of 255"):
            model_files.write([(generator, METADATA, tmp_path / "new" / "m.pb")])
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("close", [False, True])
def test_sixteen_bits_may_differ_by_more_but_not_on_average(generator, monkeypatch, close):
    def model(difference):
        return lambda folder: lambda some: np.where(plainly(generator, some) > 127, -1, 1) * difference + plainly(generator, some)

    monkeypatch.setattr(saved_model, "load", model(2))
    if close:
        saved_model.check(Path("m.pb"), generator, close=True)
    monkeypatch.setattr(saved_model, "load", model(3))
    with pytest.raises(RuntimeError, match="differs"):
        saved_model.check(Path("m.pb"), generator, close)


def nodes(function) -> list:
    return [node for called in function.graph.as_graph_def().library.function for node in called.node_def]


def test_the_number_type_is_the_generators(signatures, model):
    with number_type("bfloat16"):
        lean = shuffled(Generator(2, 1, "instance", "transpose"), 0)
    translate = saved_model.Functions(lean, METADATA).signatures()["serving_default"]
    for function, number in ((signatures["serving_default"], tf.float32), (translate.get_concrete_function(), tf.bfloat16)):
        assert {node.attr["T"].type for node in nodes(function) if node.op == "Conv2D"} == {number.as_datatype_enum}
    some = draw(6, 32, 32)[None]
    off = np.abs(translate(some)["output_image"].numpy().astype(int) - model(some))
    assert off.max() > 0 and off.mean() < 2.5


def test_models_that_compile_themselves_translate_the_same(signatures, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "check", lambda *_, **__: None)  # which would compile for one size more
    small = shuffled(Generator(1, 0, "instance", "transpose"), 0)
    saved_model.write(small, METADATA, tmp_path / "m.pb", xla=True)
    model = tf.saved_model.load(str(tmp_path / "m.pb"))
    for some, expected in ((signatures, False), (model.signatures, True)):
        assert any(f.attr["_XlaMustCompile"].b for f in some["serving_default"].graph.as_graph_def().library.function) == expected
    picture = draw(7, 24, 32)
    right = plainly(small, picture[None])
    assert_same(model.signatures["serving_default"](input_image=tf.constant(picture[None]))["output_image"].numpy(), right)
    encoded = model.signatures["translate_encoded"](image_bytes=tf.constant([images.encode(picture)]))
    assert_same(tf.io.decode_png(encoded["output_bytes"][0]).numpy(), right[0])


def test_gradients_of_our_own_are_not_in_the_file(signatures):
    """TensorFlow would warn of them whoever loads the model."""
    assert not [node.name for node in nodes(signatures["serving_default"]) if "_gradient_op_type" in node.attr]
