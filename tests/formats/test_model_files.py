"""A generator is the same in every format, and what is lost on the way does not go unseen."""

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot
from untrained import Shallow, shuffled

import inference
from formats import checksums, model_files, tflite
from generator import Generator
from pictures import images
from system import cli, storage
from system.cli import InputError
from utils import convert2float, convert2int

needs_onnx = pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="bash scripts/setup.sh onnx installs it")
ONNX = pytest.param("onnx", None, id="onnx", marks=needs_onnx)
TFLITE = pytest.param("tflite", None, id="tflite")
EACH = [ONNX, TFLITE, pytest.param("tflite", "float16", id="float16"), pytest.param("tflite", "int8", id="int8")]
each_format = pytest.mark.parametrize(("format", "quantize"), [ONNX, TFLITE])
each = pytest.mark.parametrize(("format", "quantize"), EACH)
LEVELS = {None: 1, "float16": 3, "int8": 60}  # of 255, by which a picture may differ; None: rounding
ROOT = Path(inference.__file__).parent


def about(source: str = "red", target: str = "blue", quantize: str | None = None) -> dict:
    return {"image_size": 32, "source": source, "target": target, **({"quantize": quantize} if quantize else {})}


@pytest.fixture(scope="module")
def shallow() -> Shallow:
    return shuffled(Shallow(16), 2)


@pytest.fixture(scope="module")
def generators(shallow) -> list[Generator]:
    """Large enough for all kinds of weights to be quantised: few in a tensor stay as they are."""
    return [shuffled(Generator(16, 1), 1), shallow]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([draw(seed, 32, 32) for seed in range(2)])


@pytest.fixture(scope="module")
def written(generators, pictures, tmp_path_factory):
    """`written(format, quantize)` is a folder with both generators, made once, and what was said of each."""
    made = {}

    def write(format: str, quantize: str | None = None) -> tuple[Path, list[str]]:
        if (format, quantize) not in made:
            folder, suffix = tmp_path_factory.mktemp(f"{format}-{quantize}"), model_files.KINDS[format].suffix
            ways = [("red", "blue"), ("blue", "red")]
            models = [(g, about(x, y, quantize), folder / f"{x}2{y}{suffix}") for g, (x, y) in zip(generators, ways, strict=True)]
            found = model_files.write(models, format, pictures=pictures)
            assert [old for old, _ in found] == [None, None]
            made[format, quantize] = folder, [words for _, words in found]
        return made[format, quantize]

    return write


def plainly(generator: Generator, some: np.ndarray) -> np.ndarray:
    """What the training graph makes of pictures of any size, padded by hand."""
    height, width = some.shape[1:3]
    below, right = (max(-n % 4, 8 - n) for n in (height, width))
    for axis, size, more in ((1, height, below), (2, width, right)):
        sides = [(0, more if axis == i else 0) for i in range(4)]
        some = np.pad(some, sides, "reflect" if more < size else "edge")
    return convert2int(generator(convert2float(some), training=False)).numpy()[:, :height, :width].astype(int)


@pytest.fixture(scope="module")
def pairs(generators) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Pictures of several sizes, and what each generator makes of them, by the names of models."""
    sizes = ((1, 32, 32), (2, 30, 61), (1, 1, 9), (3, 7, 5), (1, 64, 40))
    several = [np.stack([draw(seed, height, width) for seed in range(count)]) for count, height, width in sizes]
    several.append(several[1])  # a size that was there before
    return {name: [(some, plainly(g, some)) for some in several] for name, g in zip(("red2blue", "blue2red"), generators, strict=True)}


@each
def test_models_translate_as_their_generators_at_any_size(written, pairs, format, quantize):
    for name, made in pairs.items():
        model = model_files.load(written(format, quantize)[0] / f"{name}.{format}")
        for some, expected in made:
            translated = model(some)
            assert translated.dtype == np.uint8 and translated.shape == some.shape
            off = np.abs(translated.astype(int) - expected)
            assert off.max() <= LEVELS[quantize] and (quantize or off.mean() < 0.01)


@each
def test_what_the_model_is_travels_in_it(written, format, quantize):
    for source, target in (("red", "blue"), ("blue", "red")):
        model = model_files.load(written(format, quantize)[0] / f"{source}2{target}.{format}")
        known = {"format_version": 1, "multiple": 4, "smallest": 8, **about(source, target, quantize)}
        assert model.metadata == {**known, "sha256": model.metadata["sha256"]}
        assert (model.multiple, model.metadata["smallest"], model.image_size, model.fixed_size) == (4, 8, 32, None)
        assert model.sees_whole_pictures and not model.knows_statistics and model.statistics(draw(0)[None]) is None


@each
def test_it_is_said_how_far_the_models_are_from_the_checkpoint(written, format, quantize):
    folder, words = written(format, quantize)
    for line in words:
        largest, mean = map(float, re.search("^.* by ([0-9e.-]+) at most and ([0-9e.-]+) on average, of a range of 2$", line).groups())
        assert 0 <= mean <= largest <= {None: 1e-3, "float16": 0.02, "int8": 0.5}[quantize]
        assert (largest > 1e-3) == bool(quantize)
    assert sorted(snapshot(folder)) == [f"blue2red.{format}", f"red2blue.{format}"]


@each_format
@pytest.mark.parametrize(("norm", "upsample"), [("batch", "transpose"), ("instance", "transpose"), ("batch", "resize")])
def test_other_kinds_of_generator(tmp_path, pictures, format, quantize, norm, upsample):
    generator = shuffled(Generator(4, 0, norm, upsample), 3)
    assert plainly(generator, pictures).std() > 20  # there is something to compare
    model_files.write([(generator, about(), tmp_path / "model")], format, pictures=pictures)
    some = draw(5, 30, 41)[None]
    assert np.abs(model_files.load(tmp_path / "model")(some) - plainly(generator, some)).max() <= 1


def is_weight(constant: np.ndarray) -> bool:
    return constant.dtype == np.float32 and constant.ndim > 0 and [*constant.ravel()] != [1, 1, 2, 2]  # the last doubles a picture


def lose(monkeypatch, format: str, change) -> None:
    """What is written of each weight is only `change` of it; with ONNX that is not told which."""
    if format == "tflite":
        array = tflite.array
        monkeypatch.setattr(tflite, "array", lambda weight: change(weight, array(weight)))
    else:
        from onnx import numpy_helper

        from_array = numpy_helper.from_array
        monkeypatch.setattr(
            numpy_helper, "from_array", lambda array, name: from_array(change(None, array) if is_weight(array) else array, name)
        )


@each
def test_without_weights_a_model_is_noticed_and_leaves_nothing(shallow, pictures, tmp_path, monkeypatch, format, quantize):
    file = tmp_path / f"red2blue.{format}"
    file.write_bytes((b"\x08\x08\x12" if format == "onnx" else b"    TFL3") + b"before")
    before = snapshot(tmp_path)
    lose(monkeypatch, format, lambda _, array: array * 0)
    with pytest.raises(cli.Stopped, match="red → blue: .* differs from the checkpoint .*Nothing is left"):
        model_files.write([(shallow, about(quantize=quantize), file)], format, pictures=pictures)
    assert snapshot(tmp_path) == before


@each
@pytest.mark.parametrize("spoil", ["one layer", "NaN"])
def test_a_little_that_is_lost_is_noticed(shallow, tmp_path, pictures, monkeypatch, format, quantize, spoil):
    last = shallow.layers[-2].kernel

    def change(weight, array):
        if spoil == "NaN":
            return array * np.float32(np.nan) if array.ndim == 4 else array
        halved = weight is last or array.shape == (3, 16, 7, 7)
        return array / 2 if halved else array

    lose(monkeypatch, format, change)
    with pytest.raises(cli.Stopped, match="differs from the checkpoint"):
        model_files.write([(shallow, about(quantize=quantize), tmp_path / "model")], format, pictures=pictures)


@each
def test_inference_takes_every_format(call, written, tmp_path, format, quantize):
    folder = written(format, quantize)[0]
    (tmp_path / "in").mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1)):
        images.write(tmp_path / "in" / name, draw(seed, 30, 50))
    there, back = folder / f"red2blue.{format}", folder / f"blue2red.{format}"
    command = ["--model", there, "--input", tmp_path / "in", "--output", tmp_path / "out", "--keep_size", "--cycle", back]
    outcome = call(inference.main, *command)
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(snapshot(tmp_path / "out")) == ["a.png", "a_back.png", "b.png", "b_back.png"]
    assert np.array_equal(images.read(tmp_path / "out" / "a.png"), model_files.load(there)(draw(0, 30, 50)[None])[0])


@each_format
def test_large_pictures_are_translated_in_tiles_that_are_only_blended(call, written, tmp_path, format, quantize):
    model = written(format)[0] / f"red2blue.{format}"
    images.write(tmp_path / "large.png", draw(0, 100, 130))
    command = ["--model", model, "--input", tmp_path / "large.png", "--output", tmp_path / "o.png", "--keep_size", "--tile", 64]
    outcome = call(inference.main, *command)
    assert outcome.status == 0 and "gives no statistics of whole pictures" in outcome.err
    assert images.read(tmp_path / "o.png").shape == (100, 130, 3)


@each_format
def test_a_damaged_model_and_a_foreign_one_are_told_apart(written, tmp_path, format, quantize):
    file, name = tmp_path / "model", model_files.KINDS[format].name
    data = (written(format)[0] / f"red2blue.{format}").read_bytes()
    for part in (data[: len(data) // 2], data[:60]):
        file.write_bytes(part)
        with pytest.raises(InputError, match=f"^{file}: damaged.*; .*export it anew$"):
            model_files.load(file)
    file.write_bytes(data.replace(b"cyclegan", b"somebody"))
    checksums.seal(file)
    with pytest.raises(InputError, match=f"^{file}: {name}, but not one of export_graph.py$"):
        model_files.load(file)


def test_formats_are_recognised_by_content(written, model_file, tmp_path):
    for format in ("saved_model", "tflite", *(["onnx"] if importlib.util.find_spec("onnxruntime") else [])):
        source = model_file if format == "saved_model" else written(format)[0] / f"red2blue.{format}"
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / f"{format}.txt")
        assert model_files.kind(tmp_path / f"{format}.txt") == format
        assert model_files.load(tmp_path / f"{format}.txt")(draw(0)[None]).shape == (1, 48, 48, 3)
    (tmp_path / "graph.pb").write_bytes(tf.Graph().as_graph_def().SerializeToString() + b"\x0a\x04\x0a\x02ab")
    assert [model_files.kind(tmp_path / name) for name in ("graph.pb", "nothing")] == [None, None]


@needs_onnx
@pytest.mark.parametrize("cycle", [False, True])
def test_an_onnx_model_is_run_without_tensorflow(call, written, tmp_path, cycle):
    """In a process of its own, in which importing it fails."""
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} is imported')")
    images.write(tmp_path / "a.png", draw(0, 30, 50))
    there, back = (written("onnx")[0] / f"{name}.onnx" for name in ("red2blue", "blue2red"))
    command = ["--model", there, "--input", tmp_path / "a.png", *(["--cycle", back] if cycle else []), "--output"]
    done = subprocess.run(
        [sys.executable, inference.__file__, *command, tmp_path / "alone" / "b.png"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert (done.returncode, done.stderr) == (0, "") and "1 of 1 translated on CPU in " in done.stdout
    assert call(inference.main, *command, tmp_path / "here" / "b.png").status == 0
    found = snapshot(tmp_path / "here")
    assert len(found) == 1 + cycle and snapshot(tmp_path / "alone") == found


def test_a_model_can_lie_in_a_folder_of_any_name(model_file, tmp_path, monkeypatch):
    """TensorFlow takes the names of folders for patterns when it reads."""
    picture = draw(0, 16, 20)[None]
    expected = model_files.load(model_file)(picture)
    folder = shutil.copytree(model_file, tmp_path / "[2024] *" / "a\\b?.pb")
    assert np.array_equal(model_files.load(folder)(picture), expected)
    monkeypatch.chdir(folder.parent)
    assert np.array_equal(model_files.load(folder.name)(picture), expected)


def test_a_model_that_cannot_be_read_is_not_called_damaged(model_file, tmp_path, monkeypatch):
    def denied(folder, data):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "saved_model.pb"))

    monkeypatch.setattr(checksums, "verify", denied)
    with pytest.raises(PermissionError):
        model_files.load(model_file)


@pytest.mark.parametrize("format", ["saved_model", "onnx"])
def test_a_model_is_not_written_where_it_could_not_be_read(format):
    file = storage.path("ram://models/[1]/m.pb")
    if format == "onnx":
        model_files.check_output(file, format)
    else:
        with pytest.raises(InputError, match=r"^ram://models/\[1\]/m.pb: TensorFlow takes .* use another name$"):
            model_files.check_output(file, format)


def test_a_link_to_a_model_leads_to_the_new_one(monkeypatch, tmp_path):
    monkeypatch.setattr(model_files, "write_one", lambda generator, metadata, file, *_: file.mkdir() or (file / generator).touch() or "")
    generator = type("Name", (str,), {"multiple": 4, "smallest": 8})
    (tmp_path / "disk").mkdir()
    (tmp_path / "a2b.pb").symlink_to("disk/v1.pb")
    model_files.check_output(tmp_path / "a2b.pb")
    for name in ("first", "second", "third"):
        ((aside, _),) = model_files.write([(generator(name), {}, tmp_path / "a2b.pb")], overwrite=name == "third")
        assert os.readlink(tmp_path / "a2b.pb") == "disk/v1.pb" and [file.name for file in (tmp_path / "a2b.pb").iterdir()] == [name]
        assert aside is None or aside.parent == tmp_path / "disk" and (aside / "first").exists()
    assert len(list((tmp_path / "disk").iterdir())) == 2


def test_models_that_stand_there_are_moved_aside_one_by_one(monkeypatch, tmp_path):
    """Two within a second have names of their own."""
    monkeypatch.setattr(model_files, "write_one", lambda generator, metadata, file, *_: file.write_text(metadata["source"]) and "")
    monkeypatch.setattr(model_files.time, "strftime", lambda form: "20260102-030405")
    generator = Shallow(1)
    found = [model_files.write([(generator, {"source": s}, tmp_path / "m.pb")])[0][0] for s in "abc"]
    assert found == [None, tmp_path / "m-20260102-030405.pb", tmp_path / "m-20260102-030405-2.pb"]
    assert [file.read_text() for file in (*found[1:], tmp_path / "m.pb")] == ["a", "b", "c"]
    assert model_files.write([(generator, {"source": "d"}, tmp_path / "m.pb")], overwrite=True) == [(None, "")]
    assert len(list(tmp_path.iterdir())) == 3 and (tmp_path / "m.pb").read_text() == "d"


@pytest.mark.parametrize("kind", model_files.KINDS)
def test_each_kind_in_the_table_has_its_module(kind):
    module = importlib.import_module(f"formats.{kind}")
    assert callable(module.load) and callable(module.write)


def test_the_numbers_of_the_network_travel_in_the_model(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(model_files, "write_one", lambda generator, metadata, file, *_: file.write_text("") or found.append(metadata))

    class Other(Shallow):
        multiple, smallest = 16, 32

    for kind in (Shallow, Other):
        model_files.write([(kind(1), {"source": "a"}, tmp_path / kind.__name__)])
    assert found == [{"format_version": 1, "multiple": m, "smallest": s, "source": "a"} for m, s in ((4, 8), (16, 32))]


@needs_onnx
def test_other_numbers_are_padded_for(tmp_path, pictures):
    class Other(Shallow):
        multiple, smallest = 16, 48

    generator, some = shuffled(Other(2, "batch"), 0), draw(0, 50, 20)[None]
    padded = np.pad(np.pad(some, [(0, 0), (0, 14), (0, 0), (0, 0)], "reflect"), [(0, 0), (0, 0), (0, 28), (0, 0)], "edge")
    expected = plainly(generator, padded)[:, :50, :20]
    for format in ("onnx", "tflite", "saved_model"):
        file = tmp_path / format
        model_files.write([(generator, {"image_size": 32, "source": "a", "target": "b"}, file)], format, pictures=pictures)
        assert np.abs(model_files.load(file)(some) - expected).max() <= 1


def test_an_older_model_says_nothing_of_these_numbers():
    from formats import translator

    assert translator.parse('{"image_size": 32}') == {"image_size": 32, "multiple": 4, "smallest": 8}
    more = {"image_size": 32, "multiple": 32, "smallest": 64}
    assert translator.parse('{"image_size": 32, "multiple": 32, "smallest": 64}') == more
