"""The command: which weights of a run become which models, under which names, and what is refused."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot
from untrained import write_run

import export_graph
from formats import model_files, saved_model
from generator import Generator
from pictures import images
from pictures.records import to_record
from system import cli, devices
from training import run_folder
from training.config import Config
from utils import convert2float, convert2int

BEGINNINGS = {"onnx": b"\x08\x08\x12", "tflite": b"    TFL3"}
SETTINGS = {"generator": "resnet", "norm": "instance", "ngf": 2, "precision": "float32"}
SIZES = {"format_version": 1, "multiple": 4, "smallest": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory, records) -> SimpleNamespace:
    """A run's folder, and the generators of its checkpoints by step and name."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    return SimpleNamespace(networks=write_run(folder, records, n_res_blocks=0), folder=folder)


def with_settings(run: SimpleNamespace, folder: Path, **settings) -> Path:
    """The run's checkpoints in another folder, under other settings."""
    folder.mkdir()
    for file in run.folder.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    settings = {**json.loads((run.folder / "config.json").read_text()), **settings}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def read() -> dict:
    """Pictures that were read to check models with."""
    return {}


@pytest.fixture
def read_once(monkeypatch, read) -> None:
    """The same pictures are read once for all tests."""
    check_pictures = export_graph.check_pictures

    def once(folder, config, side):
        key = (folder, config.X, config.Y, side)
        if key not in read:
            read[key] = check_pictures(folder, config, side)
        return read[key]

    monkeypatch.setattr(export_graph, "check_pictures", once)


@pytest.fixture
def written(monkeypatch) -> list[SimpleNamespace]:
    """Models are only their first bytes; what they would be made of is collected here."""
    found = []

    def write_one(generator, metadata, file, format, pictures, xla):
        if format == "saved_model":
            file.mkdir()
        (file / "saved_model.pb" if format == "saved_model" else file).write_bytes(BEGINNINGS.get(format, b"new"))
        found.append(SimpleNamespace(generator=generator, metadata=metadata, format=format, pictures=pictures, xla=xla))
        return "" if format == "saved_model" else f"checked with {len(pictures)} pictures"

    monkeypatch.setattr(model_files, "write_one", write_one)
    return found


def flags(run: Path, folder: Path) -> list:
    return ["--checkpoint_dir", run, "--XtoY_model", "red2blue.pb", "--YtoX_model", "blue2red.pb", "--export_dir", folder]


def plainly(generator: Generator, picture: np.ndarray) -> np.ndarray:
    """What the training graph makes of a picture, uint8 (H, W, 3)."""
    return convert2int(generator(convert2float(picture[None]), training=False))[0].numpy()


def test_a_run_becomes_two_models(call, run, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "check", lambda *_, **__: None)  # the pictures are compared here
    outcome = call(export_graph.main, *flags(run.folder, tmp_path))
    assert (outcome.status, outcome.err) == (cli.DONE, "")
    ways = {"red2blue.pb": ("red", "blue", "G_ema"), "blue2red.pb": ("blue", "red", "F_ema")}
    assert outcome.out.splitlines() == [f"{tmp_path / name}: {x} → {y}, from step 6" for name, (x, y, _) in ways.items()]
    picture, translated = draw(4, 32, 32), {}
    for name, (source, target, network) in ways.items():
        model = model_files.load(tmp_path / name)
        about = {**SIZES, **SETTINGS, "image_size": 32, "ema": True, "step": 6, "source": source, "target": target}
        assert model.metadata == about and (model.multiple, model.metadata["smallest"], model.image_size) == (4, 8, 32)
        translated[network] = model(picture[None])[0].astype(int)
        assert np.abs(translated[network] - plainly(run.networks[6][network], picture)).max() <= 1  # rounding
    others = [plainly(network, picture) for step in (4, 6) for name, network in run.networks[step].items() if (step, name) != (6, "G_ema")]
    assert all(np.abs(translated["G_ema"] - other).mean() > 10 for other in others)


@pytest.mark.parametrize(
    ("more", "step", "names"),
    [
        ([], 6, ("G_ema", "F_ema")),
        (["--ema"], 6, ("G_ema", "F_ema")),
        (["--noema"], 6, ("G", "F")),
        (["--checkpoint_dir", "RUN/model.ckpt-4", "--ngf", 2, "--norm", "instance"], 4, ("G_ema", "F_ema")),
        (["--checkpoint_dir", "RUN/model.ckpt-4", "--noema"], 4, ("G", "F")),
        (["--best"], 4, ("G_ema", "F_ema")),
    ],
)
def test_the_weights_are_those_that_were_asked_for(call, run, written, tmp_path, monkeypatch, more, step, names):
    monkeypatch.setattr(run_folder, "evaluation", lambda folder: {"best": {"step": 4}})
    more = [str(m).replace("RUN", str(run.folder)) for m in more]
    assert call(export_graph.main, *flags(run.folder, tmp_path), *more).status == cli.DONE
    for model, name in zip(written, names, strict=True):
        for ours, right in zip(model.generator.weights, run.networks[step][name].weights, strict=True):
            np.testing.assert_array_equal(ours, right)
        assert (model.metadata["step"], model.metadata["ema"]) == (step, name.endswith("_ema"))
    assert [(model.metadata["source"], model.metadata["target"]) for model in written] == [("red", "blue"), ("blue", "red")]


def test_without_an_average_the_weights_are_exported(call, run, written, tmp_path):
    folder = with_settings(run, tmp_path / "run", ema=0.0)
    assert call(export_graph.main, *flags(folder, tmp_path)).status == cli.DONE
    for model, name in zip(written, ("G", "F"), strict=True):
        np.testing.assert_array_equal(model.generator.weights[0], run.networks[6][name].weights[0])
        assert model.metadata["ema"] is False


def test_flags_reach_the_models(call, run, written, read_once, tmp_path):
    command = [export_graph.main, *flags(run.folder, tmp_path)]
    assert call(*command, "--image_size", 48, "--xla", "--quantize", "float16").status == cli.DONE
    call(*command, "--format", "tflite", "--quantize", "int8", "--image_size", 48)
    call(*command, "--format", "tflite")
    found = [(m.format, m.xla, m.metadata["image_size"], m.metadata.get("quantize")) for m in written]
    expected = [("saved_model", True, 48, "float16"), ("tflite", False, 48, "int8"), ("tflite", False, 32, None)]
    assert found == [each for each in expected for _ in range(2)]
    assert [None if m.pictures is None else m.pictures.shape for m in written[::2]] == [None, (4, 48, 48, 3), (4, 32, 32, 3)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
def test_the_number_type_of_the_models_can_be_chosen(call, run, written, tmp_path, precision):
    assert call(export_graph.main, *flags(run.folder, tmp_path), "--precision", precision).status == cli.DONE
    used = devices.native_precision() if precision == "auto" else precision
    assert [(m.generator.layers[1].compute_dtype, m.metadata["precision"]) for m in written] == [(used, used)] * 2


@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_a_model_of_a_run_in_16_bits_computes_in_32_as_it_may_travel(call, run, written, read_once, tmp_path, format):
    folder = with_settings(run, tmp_path / "run", precision="bfloat16")
    assert call(export_graph.main, *flags(folder, tmp_path), "--format", format).status == cli.DONE
    assert [(m.generator.layers[1].compute_dtype, m.metadata["precision"]) for m in written] == [("float32", "float32")] * 2


@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_a_model_that_stands_there_is_moved_aside_or_replaced(call, run, written, read_once, tmp_path, format):
    suffix = model_files.KINDS[format].suffix
    names = [f"{name}{suffix}" for name in ("blue2red", "red2blue")]

    def content(name: str) -> bytes:
        return (tmp_path / name / "saved_model.pb" if format == "saved_model" else tmp_path / name).read_bytes()

    for name in names:
        old = tmp_path / name
        if format == "saved_model":
            old.mkdir()
            old /= "saved_model.pb"
        old.write_bytes(BEGINNINGS.get(format, b"") + name.encode())
    command = [export_graph.main, *flags(run.folder, tmp_path), "--format", format]
    outcome = call(*command)
    kept = sorted(f.name for f in tmp_path.iterdir() if f.name not in names)
    assert (
        outcome.status == cli.DONE and [content(file).endswith(name.encode()) for file, name in zip(kept, names, strict=True)] == [True] * 2
    )
    assert all(
        f"{tmp_path / name}: the model that stood there is now {tmp_path / file}\n" in outcome.out
        for file, name in zip(kept, names, strict=True)
    )
    assert [content(name) for name in names] == [BEGINNINGS.get(format, b"new")] * 2

    outcome = call(*command, "--overwrite")
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([*kept, *names]) and "stood" not in outcome.out
    if format == "tflite":
        assert outcome.out.count(", from step 6; checked with 4 pictures\n") == 2


@pytest.mark.parametrize(("format", "kind"), [("saved_model", "SavedModel"), ("tflite", "TensorFlow Lite model")])
def test_what_is_no_model_is_not_replaced(call, run, tmp_path, format, kind):
    name = f"red2blue{model_files.KINDS[format].suffix}"
    (tmp_path / name).write_text("precious")
    call(export_graph.main, *flags(run.folder, tmp_path), "--format", format, "--overwrite").assert_refused(name, f"no {kind}")
    assert snapshot(tmp_path) == {name: b"precious"}


def test_both_models_appear_or_none(call, run, written, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "write", lambda *_: None)
    first = model_files.write_one

    def fail_second(generator, metadata, *more):
        if metadata["source"] == "blue":
            raise cli.Stopped("too far")
        return first(generator, metadata, *more)

    monkeypatch.setattr(model_files, "write_one", fail_second)
    assert call(export_graph.main, *flags(run.folder, tmp_path / "new")).status == cli.PARTIAL
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--ngf", 64], ["--ngf 64", "2"]),
        (["--norm", "batch"], ["--norm batch", "instance"]),
        (["--image_size", 30], ["--image_size", "30"]),
        (["--YtoX_model", "red2blue.pb"], ["--YtoX_model", "same"]),
        (["--checkpoint_dir", "nowhere"], ["nowhere", "no such"]),
        (["--checkpoint_dir", "RUN/model.ckpt-3"], ["model.ckpt-3", "no such"]),
        (["--best"], ["--best", "--eval_every"]),
        (["--best", "--checkpoint_dir", "RUN/model.ckpt-4"], ["--best", "name its run folder"]),
        (["--quantize", "int8"], ["--quantize int8", "not for --format saved_model"]),
        (["--quantize", "float16", "--format", "onnx"], ["--quantize float16", "not for --format onnx"]),
        (["--pictures", "."], ["--pictures .", "--format onnx and tflite only"]),
        (["--format", "tflite", "--precision", "bfloat16"], ["--precision bfloat16", "--quantize float16"]),
        (["--format", "tflite", "--precision", "auto"], ["--precision auto", "float32"]),
        (["--format", "onnx", "--precision", "float16"], ["--precision float16", "leave it out"]),
        (["--format", "tflite", "--xla"], ["--xla", "saved_model only"]),
        (["--format", "tflite", "--pictures", "nowhere"], ["--pictures nowhere", "no such folder"]),
        (["--format", "tflite", "--XtoY_model", "a.pb", "--YtoX_model", "a.tflite"], ["--YtoX_model", "the same file"]),
        (["--format", "coreml"], ["--format", "coreml"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(call, run, tmp_path, more, words):
    more = [str(m).replace("RUN", str(run.folder)) for m in more]
    call(export_graph.main, *flags(run.folder, tmp_path / "new"), *more).assert_refused(*words)
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_checkpoint_or_an_average_is_refused(call, tmp_path):
    Config(image_size=32, ema=0).save(tmp_path)
    call(export_graph.main, *flags(tmp_path, tmp_path / "new"), "--ema").assert_refused("--ema", "no moving average")
    call(export_graph.main, *flags(tmp_path, tmp_path / "new")).assert_refused(str(tmp_path), "no checkpoint")
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_other_networks_is_refused(call, run, tmp_path):
    folder = with_settings(run, tmp_path / "run", ngf=3)
    call(export_graph.main, *flags(folder, tmp_path / "new")).assert_refused("model.ckpt-6")
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
    assert export_graph.with_suffix(name, format) == expected


def test_a_bare_name_lands_in_the_export_folder_and_a_path_where_it_says(tmp_path):
    args = SimpleNamespace(format="onnx", export_dir=tmp_path / "pretrained")
    assert export_graph.output(args, "a.pb") == tmp_path / "pretrained" / "a.onnx"
    assert export_graph.output(args, f"{tmp_path}/b.onnx") == tmp_path / "b.onnx"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project's folder, with the models that ship, where one stands."""
    monkeypatch.setattr(run_folder, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in run_folder.SHIPPED:
        (tmp_path / "pretrained" / name).mkdir(parents=True)
        (tmp_path / "pretrained" / name / "saved_model.pb").write_bytes(b"shipped")
    return tmp_path


def test_models_are_called_after_the_data_of_their_run(call, run, written, project):
    assert call(export_graph.main, "--checkpoint_dir", run.folder).status == cli.DONE
    assert sorted(f.name for f in (project / "pretrained").iterdir()) == sorted([*run_folder.SHIPPED, "blue2red.pb", "red2blue.pb"])
    assert [(model.metadata["source"], model.metadata["target"]) for model in written] == [("red", "blue"), ("blue", "red")]
    again = call(export_graph.main, "--checkpoint_dir", run.folder)
    assert again.status == cli.DONE and again.out.count(": the model that stood there is now ") == 2
    one = call(export_graph.main, "--checkpoint_dir", run.folder, "--XtoY_model", "my.pb", "--export_dir", "new")
    assert one.status == cli.DONE and sorted(f.name for f in (project / "new").iterdir()) == ["blue2red.pb", "my.pb"]


FRUIT = {"X": "data/apple.tfrecords", "Y": "data/orange-*-of-*.tfrecords"}
OWN = "--XtoY_model my_apple2orange.pb --YtoX_model my_orange2apple.pb"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", "--XtoY_model, --YtoX_model: pretrained/apple2orange.pb and pretrained/orange2apple.pb came with the project; "
         f"name others: {OWN}\n"),
        ("--overwrite --export_dir new/../pretrained", "came with the project"),
        ("--export_dir link", "--XtoY_model, --YtoX_model: link/apple2orange.pb and link/orange2apple.pb came with the project"),
        ("--XtoY_model a.pb", "--YtoX_model: pretrained/orange2apple.pb came with the project; "
         "name others: --YtoX_model my_orange2apple.pb\n"),
        ("--YtoX_model apple2orange.pb", "--XtoY_model: pretrained/apple2orange.pb came with the project"),
    ],
)  # fmt: skip
def test_a_model_that_ships_stays_unless_its_name_is_typed(call, run, written, project, more, words):
    (project / "link").symlink_to("pretrained")
    (project / "new").mkdir()
    command = [export_graph.main, "--checkpoint_dir", with_settings(run, project / "run", **FRUIT)]
    before = snapshot(project)
    call(*command, *more.split()).assert_refused(words)
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("more", "made"),
    [
        ("--XtoY_model apple2orange.pb --YtoX_model orange2apple.pb", ["pretrained/apple2orange.pb", "pretrained/orange2apple.pb"]),
        ("--export_dir new", ["new/apple2orange.pb", "new/orange2apple.pb"]),
        ("--format tflite", ["pretrained/apple2orange.tflite", "pretrained/orange2apple.tflite"]),
        (OWN, ["pretrained/my_apple2orange.pb", "pretrained/my_orange2apple.pb"]),
    ],
)
def test_what_is_typed_is_written(call, run, written, read_once, project, more, made):
    folder = with_settings(run, project / "run", **FRUIT)
    (project / "pictures").mkdir()
    images.write(project / "pictures" / "a.png", draw(3))
    pictures = ["--pictures", "pictures"] if "tflite" in more else []
    outcome = call(export_graph.main, "--checkpoint_dir", folder, *more.split(), *pictures)
    assert outcome.status == cli.DONE, outcome.err
    assert [line.split(": ")[0] for line in outcome.out.splitlines() if " → " in line] == made
    shipped = [file for file in (project / "pretrained").glob("*/saved_model.pb") if file.read_bytes() == b"shipped"]
    assert len(shipped) == 2  # in their places, or moved aside
    assert ("the model that stood there is now" in outcome.out) == (shipped[0].parent.name not in run_folder.SHIPPED)


def test_where_no_model_came_with_the_project_the_names_are_free(call, run, written, project):
    folder = with_settings(run, project / "run", **FRUIT)
    (project / "elsewhere").mkdir()
    (project / "pretrained").rename(project / "elsewhere" / "pretrained")
    assert call(export_graph.main, "--checkpoint_dir", folder).status == cli.DONE
    assert sorted(f.name for f in (project / "pretrained").iterdir()) == sorted(run_folder.SHIPPED)


@pytest.mark.parametrize("data", [FRUIT, {}, {"X": "a/same.tfrecords", "Y": "b/same.tfrecords"}])
def test_the_hint_after_training_exports_as_it_is_printed(call, run, written, project, data):
    folder = with_settings(run, project / "it's a run", **data)
    python, command, *argv = shlex.split(run_folder.export_command(folder, Config.load(folder)))
    assert (python, command) == ("python", "export_graph.py")
    outcome = call(export_graph.main, *argv)
    assert outcome.status == cli.DONE, outcome.err
    assert [(project / "pretrained" / name / "saved_model.pb").read_bytes() for name in run_folder.SHIPPED] == [b"shipped"] * 2
    assert len(list((project / "pretrained").iterdir())) == 4


@pytest.mark.parametrize("damage", ["index", "data", "cut"])
def test_the_newest_checkpoint_that_is_whole_is_exported(call, run, written, tmp_path, damage):
    folder = with_settings(run, tmp_path / "run")
    (folder / "checkpoint").unlink()
    index, data = folder / "model.ckpt-6.index", folder / "model.ckpt-6.data-00000-of-00001"
    content = data.read_bytes()
    (index if damage == "index" else data).unlink()
    if damage == "cut":
        data.write_bytes(content[:-9])
    outcome = call(export_graph.main, *flags(folder, tmp_path))
    assert outcome.status == cli.DONE and [model.metadata["step"] for model in written] == [4, 4]
    assert outcome.err == f"{folder}: the checkpoint of step 6 is damaged or not all there; that of step 4 is taken\n"


def test_a_damaged_checkpoint_that_was_asked_for_is_refused(call, run, tmp_path):
    folder = with_settings(run, tmp_path / "run")
    data = folder / "model.ckpt-6.data-00000-of-00001"
    content = data.read_bytes()
    data.unlink()
    data.write_bytes(content[:-9])
    run_folder.note_evaluation(folder, {"step": 6}, {"step": 6, "G_kid": 0.5, "F_kid": 0.5})
    command = [export_graph.main, *flags(folder, tmp_path / "new")]
    for more, words in (
        (["--checkpoint_dir", folder / "model.ckpt-6"], f"--checkpoint_dir {folder}/model.ckpt-6: damaged, or not all there; name another"),
        (["--best"], f"--best {folder}/model.ckpt-6: damaged, or not all there"),
    ):
        call(*command, *more).assert_refused(words)
    run_folder.note_evaluation(folder, {"step": 6}, None)
    call(*command, "--best").assert_refused("--best", "evaluation.json names no best checkpoint", "--eval_every")
    assert not (tmp_path / "new").exists()


def test_models_are_checked_with_the_runs_records_or_with_pictures_of_ones_own(call, run, written, tmp_path):
    config = Config.load(run.folder)
    some = export_graph.check_pictures(None, config, 48)
    assert some.shape == (4, 48, 48, 3) and some.dtype == np.uint8
    for picture, seed in zip(some, (0, 1, 9, 10), strict=True):  # two of each domain, as they were written
        np.testing.assert_array_equal(picture, draw(seed))
    assert export_graph.check_pictures(None, config, 1000).shape == (4, 256, 256, 3)
    (tmp_path / "own").mkdir()
    for i in range(5):
        images.write(tmp_path / "own" / f"{i}.png", draw(3 + i, 40, 64))
    own = export_graph.check_pictures(tmp_path / "own", config, 32)
    assert len(own) == 4 and np.array_equal(own[0], images.resize_short_side(draw(3, 40, 64), 32)[:, 9:41])

    folder = with_settings(run, tmp_path / "run", X="gone.tfrecords")
    command = [export_graph.main, *flags(folder, tmp_path / "new"), "--format", "tflite"]
    call(*command).assert_refused("gone.tfrecords", "--pictures")
    assert not (tmp_path / "new").exists() and not written
    assert call(*command, "--pictures", tmp_path / "own").status == 0
    assert len(written[0].pictures) == 4


def test_models_are_checked_with_records_that_hold_pictures(run, tmp_path):
    file = tmp_path / "mixed.tfrecords"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in (to_record("a.png", images.encode(draw(5))), bytes(range(128, 256)), to_record("b.png", images.encode(draw(6)))):
            writer.write(record)
    config = Config.load(run.folder)
    config.X = str(file)
    for picture, seed in zip(export_graph.check_pictures(None, config, 48), (5, 6, 9, 10), strict=True):
        np.testing.assert_array_equal(picture, draw(seed))


def test_records_that_are_of_another_kind_are_refused(call, run, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "foreign")) as writer:
        writer.write(bytes(range(128, 256)))
    folder = with_settings(run, tmp_path / "run", Y=str(tmp_path / "foreign"))
    command = [export_graph.main, *flags(folder, tmp_path / "new"), "--format", "tflite"]
    call(*command).assert_refused(f"{tmp_path}/foreign: record 0 has no image/file_name", "--pictures")
    assert not (tmp_path / "new").exists()


def test_records_that_cannot_be_read_are_refused(call, run, tmp_path, monkeypatch):
    def feed(self, step):
        raise tf.errors.DataLossError(None, None, "damaged")

    monkeypatch.setattr("reader.Reader.feed", feed)
    command = [export_graph.main, *flags(run.folder, tmp_path / "new"), "--format", "tflite"]
    call(*command).assert_refused("red.tfrecords", "cannot be read", "--pictures")
