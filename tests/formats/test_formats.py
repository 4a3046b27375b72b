"""A generator is the same in every format, and what is lost on the way does not go unseen."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot
from test_export_graph import flags

import export_graph
import inference
from formats import model_files, onnx, translator
from generator import Generator
from pictures import images
from system import cli
from system.cli import InputError
from training.config import Config

needs_onnx = pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="bash scripts/setup.sh onnx installs it")
ONNX = pytest.param("onnx", None, id="onnx", marks=needs_onnx)
TFLITE = pytest.param("tflite", None, id="tflite")
EACH = [ONNX, TFLITE, pytest.param("tflite", "float16", id="float16"), pytest.param("tflite", "int8", id="int8")]
each_format = pytest.mark.parametrize(("format", "quantize"), [ONNX, TFLITE])
each = pytest.mark.parametrize(("format", "quantize"), EACH)
LEVELS = {None: 1, "float16": 3, "int8": 40}  # of 255, by which a picture may differ; None: rounding
METADATA = {"image_size": 32, "source": "red", "target": "blue"}


def wanted(format: str, quantize: str | None) -> list[str]:
    return ["--format", format, *(["--quantize", quantize] if quantize else [])]


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """`exported(format, quantize)` is the folder with both models of the tiny run, made by the command once; output.txt is what it said."""
    made = {}

    def export(format: str, quantize: str | None = None) -> Path:
        if (format, quantize) not in made:
            folder = made[format, quantize] = tmp_path_factory.mktemp(f"{format}-{quantize}")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert cli.run(export_graph.main, [*map(str, flags(trained_run, folder)), *wanted(format, quantize)]) == cli.DONE
            (folder / "output.txt").write_text(said.getvalue())
        return made[format, quantize]

    return export


@pytest.fixture(scope="module")
def generator() -> Generator:
    """Large enough for all kinds of weights to be quantised: few in a tensor stay as they are."""
    keras.utils.set_random_seed(0)
    return Generator(ngf=16, n_res_blocks=1)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([draw(seed, 32, 32) for seed in range(2)])


def write(generator, file: Path, format: str, quantize: str | None, pictures: np.ndarray) -> translator.Translator:
    onnx.write(generator, METADATA, file, format, quantize, pictures)
    return translator.load(file)


@each
def test_a_run_becomes_two_models_that_translate_as_its_savedmodels(exported, format, quantize):
    for name in ("red2blue", "blue2red"):
        plain = translator.load(exported("saved_model") / f"{name}.pb")
        model = translator.load(exported(format, quantize) / f"{name}.{format}")
        for count, height, width in ((1, 32, 32), (2, 30, 61), (1, 1, 9), (3, 7, 5), (1, 64, 40), (2, 30, 61)):
            some = np.stack([draw(seed, height, width) for seed in range(count)])
            translated = model(some)
            assert translated.dtype == np.uint8 and translated.shape == some.shape
            off = np.abs(translated.astype(int) - plain(some))
            assert off.max() <= LEVELS[quantize] and (quantize or off.mean() < 0.01)


@each
def test_what_the_model_is_travels_in_it(exported, format, quantize):
    plain = translator.load(exported("saved_model") / "red2blue.pb")
    model = translator.load(exported(format, quantize) / f"red2blue.{format}")
    assert model.metadata == {**plain.metadata, **({"quantize": quantize} if quantize else {})}
    assert (model.metadata["source"], model.metadata["target"], model.image_size, model.metadata["step"]) == ("red", "blue", 32, 6)
    assert model.sees_whole_pictures and not model.knows_statistics and model.statistics(draw(0)[None]) is None


@each
def test_the_command_says_how_far_the_models_are_from_the_checkpoint(exported, format, quantize):
    folder = exported(format, quantize)
    lines = (folder / "output.txt").read_text().splitlines()
    for line, name in zip(lines, ("red2blue", "blue2red"), strict=True):
        assert line.startswith(f"{folder / name}.{format}: ")
        largest, mean = map(float, re.search("by ([0-9e.-]+) at most and ([0-9e.-]+) on average, of a range of 2$", line).groups())
        assert 0 <= mean <= largest <= {None: 1e-3, "float16": 0.02, "int8": 0.5}[quantize]
    assert sorted(snapshot(folder)) == [f"blue2red.{format}", "output.txt", f"red2blue.{format}"]


def test_the_interpreter_says_nothing(exported):
    """In a process of its own: what it says it says once."""
    file = exported("tflite") / "red2blue.tflite"
    code = f"from formats import translator; translator.load({str(file)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(export_graph.__file__).parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_in_16_bits_is_exported_in_32(call, trained_run, tmp_path, monkeypatch):
    run, seen = tmp_path / "run", []
    shutil.copytree(trained_run, run)
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "precision": "bfloat16"}))

    def write(generator, metadata, file, *_):
        seen.append((generator.layers[1].compute_dtype, metadata["precision"]))
        file.write_bytes(b"    TFL3")

    monkeypatch.setattr(onnx, "write", write)
    assert call(export_graph.main, *flags(run, tmp_path / "new"), "--format", "tflite").status == 0
    assert seen == [("float32", "float32")] * 2


@each_format
@pytest.mark.parametrize(("norm", "upsample"), [("batch", "transpose"), ("instance", "resize")])
def test_other_kinds_of_generator(tmp_path, pictures, format, quantize, norm, upsample):
    generator = Generator(4, 1, norm, upsample)
    if norm == "batch":  # whose averages kept for later should be something
        for layer in generator.layers:
            layer.momentum = 0.0
        generator(np.float32(pictures) / 127.5 - 1, training=True)
    file = tmp_path / "model"
    write(generator, file, format, quantize, pictures)
    *_, contrast = onnx.differences(model_files.load(file, file.read_bytes()), generator, pictures)
    assert contrast > 0.1  # there was something to compare


@each
def test_the_check_looks_at_two_sizes(generator, tmp_path, pictures, monkeypatch, format, quantize):
    file = tmp_path / "model"
    write(generator, file, format, quantize, pictures)
    model, seen = model_files.load(file, file.read_bytes()), []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda some: seen.append(some.shape) or generate(some))
    onnx.differences(model, generator, pictures)
    assert {(1, 32, 32, 3), (2, 17, 29, 3)} <= set(seen)


@each
def test_without_weights_a_model_is_noticed_and_leaves_nothing(call, trained_run, tmp_path, monkeypatch, format, quantize):
    (tmp_path / f"red2blue.{format}").write_bytes((b"\x08\x08\x12" if format == "onnx" else b"    TFL3") + b"before")
    before = snapshot(tmp_path)
    monkeypatch.setattr(onnx, "array", lambda weight: np.zeros(weight.shape, np.float32))
    outcome = call(export_graph.main, *flags(trained_run, tmp_path), *wanted(format, quantize))
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (cli.PARTIAL, "", 1)
    assert "red → blue" in outcome.err and "differs from the checkpoint" in outcome.err and "Nothing is left" in outcome.err
    assert snapshot(tmp_path) == before


@each
@pytest.mark.parametrize("spoil", ["one layer", "NaN"])
def test_a_little_that_is_lost_is_noticed(generator, tmp_path, pictures, monkeypatch, format, quantize, spoil):
    array = onnx.array

    def lossy(weight):
        last = weight is generator.layers[-2].kernel
        return array(weight) * (np.float32(np.nan) if spoil == "NaN" else 1 - 0.5 * last)

    monkeypatch.setattr(onnx, "array", lossy)
    with pytest.raises(cli.Stopped, match="differs from the checkpoint"):
        write(generator, tmp_path / "model", format, quantize, pictures)


class Flat:
    """A model of which nothing is left but the last bias."""

    def generate(self, some):
        return np.full(some.shape, np.tanh(0.2), np.float32)

    def __call__(self, some):
        return np.uint8(np.rint((self.generate(some) + 1) * 127.5))


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_flat_picture_is_never_within_what_int8_may_differ(tmp_path, pictures, monkeypatch, scale):
    """However little the right picture varies."""
    generator = Generator(4, 0)
    last = generator.layers[-2]
    last.kernel.assign(last.kernel * scale)
    last.bias.assign([0.2] * 3)
    monkeypatch.setattr(onnx, "tflite_model", lambda *_: b"")
    monkeypatch.setattr(model_files, "load", lambda *_: Flat())
    assert onnx.differences(Flat(), generator, pictures)[1] > 0.05 or scale < 1
    with pytest.raises(cli.Stopped, match="differs from the checkpoint"):
        onnx.write(generator, METADATA, tmp_path / "model", "tflite", "int8", pictures)


def test_weights_of_fewer_bits_take_less_room(generator):
    size = {quantize: len(onnx.tflite_model(generator, METADATA, quantize)) for quantize in (None, "float16", "int8")}
    assert 0.5 < size["float16"] / size[None] < 0.6 and size["int8"] / size[None] < 0.4


@needs_onnx
def test_onnx_runs_without_any_code_of_the_project(exported, tmp_path):
    some = np.stack([draw(seed, 30, 61) for seed in range(2)])
    np.save(tmp_path / "pictures.npy", some)
    code = f"""
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(exported("onnx") / "red2blue.onnx")!r})
(translated,) = session.run(["output_image"], {{"input_image": np.load("pictures.npy")}})
np.save("translated.npy", translated)
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    plain = translator.load(exported("saved_model") / "red2blue.pb")
    assert np.abs(np.load(tmp_path / "translated.npy").astype(int) - plain(some)).max() <= 1


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite_runs_without_any_code_of_the_project(exported):
    interpreter = tf.lite.Interpreter(str(exported("tflite") / "red2blue.tflite"))
    (there,), (back,) = interpreter.get_input_details(), interpreter.get_output_details()
    plain = translator.load(exported("saved_model") / "red2blue.pb")
    for shape in ((1, 32, 32, 3), (2, 24, 40, 3)):
        some = np.stack([draw(seed, *shape[1:3]) for seed in range(shape[0])])
        interpreter.resize_tensor_input(there["index"], shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(there["index"], some.astype(np.float32) / 127.5 - 1)
        interpreter.invoke()
        translated = (interpreter.get_tensor(back["index"]) + 1) * 127.5
        assert np.abs(translated - plain(some)).max() < 1


@each
def test_inference_takes_every_format(call, exported, tmp_path, format, quantize):
    folder = exported(format, quantize)
    (tmp_path / "in").mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1)):
        images.write(tmp_path / "in" / name, draw(seed, 30, 50))
    there, back = folder / f"red2blue.{format}", folder / f"blue2red.{format}"
    outcome = call(
        inference.main, "--model", there, "--input", tmp_path / "in", "--output", tmp_path / "out", "--keep_size", "--cycle", back
    )
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(snapshot(tmp_path / "out")) == ["a.png", "a_back.png", "b.png", "b_back.png"]
    assert np.array_equal(images.read(tmp_path / "out" / "a.png"), translator.load(there)(draw(0, 30, 50)[None])[0])


@needs_onnx
@pytest.mark.parametrize("cycle", [False, True])
def test_an_onnx_model_is_run_without_tensorflow(call, exported, tmp_path, cycle):
    """In a process of its own, in which importing it fails."""
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} is imported')")
    images.write(tmp_path / "a.png", draw(0, 30, 50))
    there, back = (exported("onnx") / f"{name}.onnx" for name in ("red2blue", "blue2red"))
    command = ["--model", there, "--input", tmp_path / "a.png", *(["--cycle", back] if cycle else []), "--output"]
    done = subprocess.run(
        [sys.executable, inference.__file__, *command, tmp_path / "alone" / "b.png"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert (done.returncode, done.stderr) == (0, "") and "1 of 1 translated on CPU in " in done.stdout
    assert call(inference.main, *command, tmp_path / "here" / "b.png").status == 0
    pictures = snapshot(tmp_path / "here")
    assert len(pictures) == 1 + cycle and snapshot(tmp_path / "alone") == pictures


@needs_onnx
def test_the_device_is_the_one_that_onnx_runtime_computes_on(call, exported, tmp_path, monkeypatch):
    import onnxruntime

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: providers)
    images.write(tmp_path / "a.png", draw(0))
    model = exported("onnx") / "red2blue.onnx"
    outcome = call(inference.main, "--model", model, "--input", tmp_path / "a.png", "--output", tmp_path / "b.png")
    assert "1 of 1 translated on CUDA in " in outcome.out


@each_format
def test_large_pictures_are_translated_in_tiles_that_are_only_blended(call, exported, tmp_path, format, quantize):
    model = exported(format) / f"red2blue.{format}"
    images.write(tmp_path / "large.png", draw(0, 100, 130))
    outcome = call(
        inference.main, "--model", model, "--input", tmp_path / "large.png", "--output", tmp_path / "o.png", "--keep_size", "--tile", 64
    )
    assert outcome.status == 0 and "gives no statistics of whole pictures" in outcome.err
    assert images.read(tmp_path / "o.png").shape == (100, 130, 3)


@each_format
def test_too_little_memory_is_pythons_error(exported, monkeypatch, format, quantize):
    model = translator.load(exported(format) / f"red2blue.{format}")

    def fail(*args, **inputs):
        raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    runtime = model.model
    for name in ("session", "runner"):
        if hasattr(runtime, name):
            fake = fail if name == "runner" else type("Session", (), {"run": fail})()
            monkeypatch.setattr(runtime, name, fake)
    with pytest.raises(MemoryError):
        model(draw(0)[None])


@each_format
def test_a_damaged_model_and_a_foreign_one_are_told_apart(exported, tmp_path, generator, format, quantize):
    file, name = tmp_path / "model", model_files.NAMES[format]
    data = (exported(format) / f"red2blue.{format}").read_bytes()
    for part in (data[: len(data) // 2], data[:60]):
        file.write_bytes(part)
        with pytest.raises(InputError, match=f"^{file}: damaged {name} .*; export it anew$"):
            translator.load(file)
    file.write_bytes(data.replace(b"cyclegan", b"somebody"))
    with pytest.raises(InputError, match=f"^{file}: {name}, but not one of export_graph.py$"):
        translator.load(file)


def test_formats_are_recognised_by_content(exported, tmp_path):
    for format in ("saved_model", "tflite", *(["onnx"] if importlib.util.find_spec("onnxruntime") else [])):
        source, copy = exported(format) / f"red2blue{model_files.SUFFIXES[format]}", tmp_path / f"{format}.txt"
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)
        assert model_files.kind(copy) == format
        assert translator.load(copy)(draw(0)[None]).shape == (1, 48, 48, 3)
    (tmp_path / "graph.pb").write_bytes(tf.Graph().as_graph_def().SerializeToString() + b"\x0a\x04\x0a\x02ab")
    assert [model_files.kind(tmp_path / name) for name in ("graph.pb", "nothing")] == [None, None]


@needs_onnx
def test_onnx_runtime_may_be_missing(call, exported, trained_run, tmp_path, monkeypatch):
    file = exported("onnx") / "red2blue.onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=f"^{file}: .*not installed: bash scripts/setup.sh onnx$"):
        translator.load(file)
    outcome = call(export_graph.main, *flags(trained_run, tmp_path / "new"), "--format", "onnx")
    outcome.assert_refused("--format onnx", "onnxruntime not installed", "setup.sh onnx")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("apple2orange.pb", "saved_model", "apple2orange.pb"),
        ("model", "saved_model", "model"),
        ("apple2orange.pb", "onnx", "apple2orange.onnx"),
        ("new/apple2orange.pb", "tflite", "new/apple2orange.tflite"),
        ("a.onnx", "tflite", "a.tflite"),
        ("a.ONNX", "onnx", "a.ONNX"),
        ("v1.2", "onnx", "v1.2.onnx"),
        ("gs://bucket/a.pb", "tflite", "gs://bucket/a.tflite"),
    ],
)
def test_names_get_the_suffix_of_the_format(name, format, expected):
    assert export_graph.named(name, format) == expected


@pytest.fixture
def written_at_once(monkeypatch):
    """Models are only their first bytes."""
    monkeypatch.setattr(onnx, "write", lambda generator, metadata, file, *_: file.write_bytes(b"    TFL3") and "checked")


def test_a_model_that_stands_there_is_moved_aside_or_replaced(call, trained_run, tmp_path, written_at_once):
    for name in ("red2blue", "blue2red"):
        (tmp_path / f"{name}.tflite").write_bytes(b"    TFL3 before")
    command = [export_graph.main, *flags(trained_run, tmp_path), "--format", "tflite", "--ema"]
    outcome = call(*command)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert outcome.status == 0 and len(kept) == 4 and "now" in outcome.out
    assert sorted(snapshot(tmp_path).values()) == [b"    TFL3", b"    TFL3", b"    TFL3 before", b"    TFL3 before"]
    call(*command, "--overwrite")
    assert sorted(file.name for file in tmp_path.iterdir()) == kept
    (tmp_path / "red2blue.tflite").write_bytes(b"precious")
    before = snapshot(tmp_path)
    call(*command, "--overwrite").assert_refused("red2blue.tflite", "no TensorFlow Lite model")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--quantize", "int8"], ["--quantize int8", "not for --format saved_model"]),
        (["--quantize", "float16", "--format", "onnx"], ["--quantize float16", "not for --format onnx"]),
        (["--pictures", "."], ["--pictures .", "--format onnx and tflite only"]),
        (["--format", "tflite", "--precision", "bfloat16"], ["--precision bfloat16", "--quantize float16"]),
        (["--format", "tflite", "--precision", "auto"], ["--precision auto", "float32"]),
        pytest.param(["--format", "onnx", "--precision", "float16"], ["--precision float16", "leave it out"]),
        (["--format", "tflite", "--xla"], ["--xla", "saved_model only"]),
        (["--format", "tflite", "--pictures", "nowhere"], ["--pictures nowhere", "no such folder"]),
        (["--format", "tflite", "--XtoY_model", "a.pb", "--YtoX_model", "a.tflite"], ["--YtoX_model", "the same file"]),
        (["--format", "coreml"], ["--format", "coreml"]),
    ],
)
def test_wrong_combinations_are_one_line_and_leave_nothing(call, trained_run, tmp_path, more, words):
    call(export_graph.main, *flags(trained_run, tmp_path / "new"), *more).assert_refused(*words)
    assert not (tmp_path / "new").exists()


def test_models_are_checked_with_the_runs_records_or_with_pictures_of_ones_own(call, trained_run, tmp_path, written_at_once):
    config = Config.load(trained_run)
    some = onnx.check_pictures(None, config, 32)
    assert some.shape == (4, 32, 32, 3) and some.dtype == np.uint8
    (tmp_path / "own").mkdir()
    images.write(tmp_path / "own" / "a.png", draw(3, 40, 64))
    own = onnx.check_pictures(tmp_path / "own", config, 32)
    assert np.array_equal(own[0], images.resize_short_side(draw(3, 40, 64), 32)[:, 9:41])

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "X": "gone.tfrecords"}))
    command = [export_graph.main, *flags(run, tmp_path / "new"), "--format", "tflite"]
    call(*command).assert_refused("gone.tfrecords", "--pictures")
    assert not (tmp_path / "new").exists()
    assert call(*command, "--pictures", tmp_path / "own").status == 0


@each_format
def test_a_layer_that_is_not_known_is_named(pictures, format, quantize):
    picture = keras.Input((None, None, 3))
    network = keras.Model(picture, keras.layers.Activation("sigmoid", name="odd")(picture))
    make = onnx.onnx_model if format == "onnx" else onnx.tflite_model
    with pytest.raises(TypeError, match="odd: a Activation is not known"):
        make(network, METADATA)
