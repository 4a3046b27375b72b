import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot

import export_graph
from formats import translator
from generator import Generator
from pictures import images
from system import cli
from system.devices import native_precision
from training.config import Config
from utils import convert2float, convert2int

METADATA = {"image_size": 32, "generator": "resnet", "source": "red", "target": "blue"}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(ngf=4, n_res_blocks=1)


@pytest.fixture(scope="module")
def model(generator, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("pretrained") / "red2blue.pb"
    assert export_graph.export(generator, METADATA, file) is None
    return file


def flags(run: Path, folder: Path) -> list:
    return ["--checkpoint_dir", run, "--XtoY_model", "red2blue.pb", "--YtoX_model", "blue2red.pb", "--export_dir", folder]


def plainly(generator: Generator, picture: np.ndarray) -> np.ndarray:
    """What the training graph makes of a picture, uint8 (H, W, 3)."""
    return convert2int(generator(convert2float(picture[None]), training=False))[0].numpy()


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1  # rounding


def test_the_model_runs_without_any_code_of_the_project(model, generator, tmp_path):
    np.save(tmp_path / "picture.npy", draw(0, 32, 40))
    code = f"""
import numpy as np, tensorflow as tf
model = tf.saved_model.load({str(model)!r})
picture = tf.constant(np.load("picture.npy")[None])
np.save("translated.npy", model.signatures["serving_default"](input_image=picture)["output_image"][0])
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert_same(np.load(tmp_path / "translated.npy"), plainly(generator, draw(0, 32, 40)))


def test_the_weights_are_constants_and_stored_once(tmp_path):
    large = Generator(ngf=16, n_res_blocks=2)
    export_graph.export(large, METADATA, tmp_path / "m.pb")
    weights = 4 * large.count_params()
    assert weights < (tmp_path / "m.pb" / "saved_model.pb").stat().st_size < 1.5 * weights
    assert not [
        name for name, _ in tf.train.list_variables(str(tmp_path / "m.pb" / "variables" / "variables")) if "OBJECT_GRAPH" not in name
    ]


def test_weights_of_half_the_size_make_nearly_the_same_picture(call, trained_run, tmp_path):
    for name, more in (("whole", []), ("half", ["--quantize", "float16"])):
        assert call(export_graph.main, *flags(trained_run, tmp_path / name), *more).status == cli.DONE
    whole, half = (translator.load(tmp_path / name / "red2blue.pb") for name in ("whole", "half"))
    assert (half.metadata["quantize"], "quantize" in whole.metadata) == ("float16", False)
    off = np.abs(whole(draw(5, 40, 32)[None]).astype(int) - half(draw(5, 40, 32)[None]))
    assert off.max() > 0 and off.mean() < 1
    large = Generator(ngf=16, n_res_blocks=2)
    export_graph.export(large, {**METADATA, "quantize": "float16"}, tmp_path / "m.pb")
    assert 2 * large.count_params() < (tmp_path / "m.pb" / "saved_model.pb").stat().st_size < 4 * large.count_params()


@pytest.mark.parametrize(("height", "width", "mode"), [(30, 61, "reflect"), (5, 9, "reflect"), (8, 8, "edge"), (4, 3, "edge")])
def test_any_size_is_padded_inside_and_cut_again(model, generator, height, width, mode):
    picture = draw(1, height, width)
    below, right = (max(-n % 4, 8 - n) for n in (height, width))
    padded = np.pad(picture, [(0, below), (0, right), (0, 0)], mode)
    assert_same(translator.load(model)(picture[None])[0], plainly(generator, padded)[:height, :width])


def test_encoded_pictures_of_several_sizes_come_back_as_png(model):
    pictures = [draw(2, 16, 24), draw(3, 33, 20)]
    encoded = [images.encode(p) for p in pictures]
    out = tf.saved_model.load(str(model)).signatures["translate_encoded"](image_bytes=tf.constant(encoded))["output_bytes"].numpy()
    for picture, file in zip(pictures, out, strict=True):
        assert file.startswith(b"\x89PNG")
        assert np.array_equal(images.decode(file), translator.load(model)(picture[None])[0])


def test_the_model_says_what_it_is(model):
    metadata = translator.load(model).metadata
    assert metadata == {**METADATA, "format_version": 1}


def test_a_model_that_differs_from_its_checkpoint_is_not_kept(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(translator, "load", lambda file: lambda pictures: np.zeros_like(pictures))
    with pytest.raises(RuntimeError, match="differs"):
        export_graph.export(generator, METADATA, tmp_path / "new" / "m.pb")
    assert not list(tmp_path.iterdir())


def test_a_run_becomes_two_models(call, trained_run, tmp_path):
    outcome = call(export_graph.main, *flags(trained_run, tmp_path), "--noema")
    assert (outcome.status, outcome.err) == (cli.DONE, "")
    G, F = (translator.load(tmp_path / f"{name}.pb") for name in ("red2blue", "blue2red"))
    assert (G.metadata["source"], G.metadata["target"], G.image_size, G.metadata["step"]) == ("red", "blue", 32, 6)
    assert (F.metadata["source"], F.metadata["target"]) == ("blue", "red")
    restored, _ = export_graph.restore_generators(str(trained_run / "model.ckpt-6"), Config.load(trained_run), ema=False)
    for exported, trained in zip((G, F), restored, strict=True):
        assert_same(exported(draw(4, 32, 32)[None])[0], plainly(trained, draw(4, 32, 32)))


def test_it_is_the_moving_average_that_is_exported(call, trained_run, tmp_path):
    call(export_graph.main, *flags(trained_run, tmp_path))
    G = translator.load(tmp_path / "red2blue.pb")
    averages, _ = export_graph.restore_generators(str(trained_run / "model.ckpt-6"), Config.load(trained_run), ema=True)
    assert_same(G(draw(4, 32, 32)[None])[0], plainly(averages[0], draw(4, 32, 32)))
    assert G.metadata["ema"] is True


def test_the_average_an_older_checkpoint_and_another_size_can_be_had(call, trained_run, tmp_path):
    newest, average, older = tmp_path / "newest", tmp_path / "average", tmp_path / "older"
    call(export_graph.main, *flags(trained_run, newest), "--noema")
    call(export_graph.main, *flags(trained_run, average), "--ema", "--image_size", 48)
    call(export_graph.main, *flags(trained_run / "model.ckpt-4", older), "--noema", "--ngf", 2, "--norm", "instance")
    models = [translator.load(folder / "red2blue.pb") for folder in (newest, average, older)]
    assert [m.image_size for m in models] == [32, 48, 32]
    assert [m.metadata["step"] for m in models] == [6, 6, 4]
    pictures = [m(draw(5, 32, 32)[None]) for m in models]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
def test_the_number_type_of_the_models_can_be_chosen(call, trained_run, tmp_path, precision):
    assert call(export_graph.main, *flags(trained_run, tmp_path / "plain")).status == 0
    assert call(export_graph.main, *flags(trained_run, tmp_path), "--precision", precision).status == 0
    plain, chosen = (translator.load(tmp_path / name) for name in ("plain/red2blue.pb", "red2blue.pb"))
    used = native_precision() if precision == "auto" else precision
    assert plain.metadata["precision"] == "float32" and chosen.metadata["precision"] == used
    convolutions = {node.attr["T"].type for node in nodes(chosen) if node.op == "Conv2D"}
    assert convolutions == {tf.as_dtype(used).as_datatype_enum}
    picture = draw(6, 32, 32)[None]
    assert np.abs(chosen(picture).astype(int) - plain(picture)).mean() < 2.5


def test_a_model_of_a_run_in_16_bits_computes_in_32_as_it_may_travel(call, trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "precision": "bfloat16"}))
    assert call(export_graph.main, *flags(run, tmp_path)).status == 0
    model = translator.load(tmp_path / "red2blue.pb")
    assert model.metadata["precision"] == "float32"
    assert {node.attr["T"].type for node in nodes(model) if node.op == "Conv2D"} == {tf.float32.as_datatype_enum}


def test_models_that_compile_themselves_translate_the_same(call, trained_run, tmp_path):
    assert call(export_graph.main, *flags(trained_run, tmp_path / "plain")).status == 0
    assert call(export_graph.main, *flags(trained_run, tmp_path), "--xla").status == 0
    plain, compiled = (translator.load(tmp_path / name) for name in ("plain/red2blue.pb", "red2blue.pb"))
    for model, expected in ((plain, False), (compiled, True)):
        assert any(function.attr["_XlaMustCompile"].b for function in library(model)) == expected
    for height, width in ((32, 32), (21, 30)):
        assert_same(compiled(draw(7, height, width)[None])[0], plain(draw(7, height, width)[None])[0])
    encoded = compiled.model.signatures["translate_encoded"](image_bytes=tf.constant([images.encode(draw(7, 32, 32))]))
    assert_same(tf.io.decode_png(encoded["output_bytes"][0]).numpy(), plain(draw(7, 32, 32)[None])[0])


def library(model: translator.Translator) -> list:
    return list(model.model.signatures["serving_default"].graph.as_graph_def().library.function)


def nodes(model: translator.Translator) -> list:
    return [node for function in library(model) for node in function.node_def]


def test_a_model_that_stands_there_is_moved_aside_or_replaced(call, model, trained_run, tmp_path):
    names = ["blue2red.pb", "red2blue.pb"]
    for name in names:
        shutil.copytree(model, tmp_path / name)
        (tmp_path / name / "mark").write_text(name)
    outcome = call(export_graph.main, *flags(trained_run, tmp_path))
    kept = sorted(f.name for f in tmp_path.iterdir() if f.name not in names)
    assert [(tmp_path / f / "mark").read_text() for f in kept] == names
    assert all(name in outcome.out for name in kept)
    assert not [name for name in names if (tmp_path / name / "mark").exists()]

    call(export_graph.main, *flags(trained_run, tmp_path), "--overwrite")
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([*kept, *names])


def test_what_is_no_model_is_not_replaced(call, trained_run, tmp_path):
    (tmp_path / "red2blue.pb").write_text("precious")
    call(export_graph.main, *flags(trained_run, tmp_path), "--overwrite").assert_refused("red2blue.pb", "no SavedModel")
    assert snapshot(tmp_path) == {"red2blue.pb": b"precious"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--ngf", 64], ["--ngf 64", "2"]),
        (["--norm", "batch"], ["--norm batch", "instance"]),
        (["--image_size", 30], ["--image_size", "30"]),
        (["--YtoX_model", "red2blue.pb"], ["--YtoX_model", "same"]),
        (["--checkpoint_dir", "nowhere"], ["nowhere", "no such"]),
        (["--checkpoint_dir", "RUN/model.ckpt-3"], ["model.ckpt-3", "no such"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(call, trained_run, tmp_path, more, words):
    more = [str(m).replace("RUN", str(trained_run)) for m in more]
    call(export_graph.main, *flags(trained_run, tmp_path / "new"), *more).assert_refused(*words)
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_checkpoint_or_an_average_is_refused(call, tmp_path):
    Config(image_size=32, ema=0).save(tmp_path)
    call(export_graph.main, *flags(tmp_path, tmp_path / "new"), "--ema").assert_refused("--ema", "no moving average")
    call(export_graph.main, *flags(tmp_path, tmp_path / "new")).assert_refused(str(tmp_path), "no checkpoint")
    assert not (tmp_path / "new").exists()
