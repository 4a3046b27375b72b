"""A model file becomes a function of pictures, and stands alone."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw

from formats import model_files, translator
from formats.translator import Translator
from system.cli import InputError

ROOT = Path(__file__).parents[2]
MEMORY, FAILED = "OOM|allocate", r"^m.pb: fails on CPU \(RuntimeError: no such device\); export it anew$"


@pytest.fixture(scope="module")
def translate(model_file) -> Translator:
    return model_files.load(model_file)


def test_it_knows_what_the_model_is_for(translate, model_file):
    assert translate.file == model_file and translate.image_size == 32
    expected = {
        "image_size": 32,
        "generator": "resnet",
        "source": "apple",
        "target": "orange",
        "format_version": 1,
        "multiple": 4,
        "smallest": 8,
    }
    assert translate.metadata == expected


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (7, 9), (8, 8), (30, 61), (64, 32)])
def test_it_takes_pictures_of_any_size(translate, height, width):
    pictures = np.stack([draw(0, height, width), draw(1, height, width)])
    translated = translate(pictures)
    assert translated.shape == pictures.shape and translated.dtype == np.uint8
    assert height * width < 9 or translated.std() > 1  # something is in them


def test_pictures_of_a_batch_do_not_touch_each_other(translate):
    pictures = np.stack([draw(seed, 30, 61) for seed in range(3)])
    together = translate(pictures).astype(int)
    alone = np.concatenate([translate(pictures[i : i + 1]) for i in range(3)]).astype(int)
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 10


def test_what_is_added_to_fit_the_network_is_cut_off_again(translate):
    """Rows and columns are added mirrored: adding them by hand makes no difference."""
    picture = draw(0, 30, 61)
    mirrored = np.pad(picture, ((0, 2), (0, 3), (0, 0)), "reflect")
    difference = translate(picture[None])[0].astype(int) - translate(mirrored[None])[0, :30, :61]
    assert np.abs(difference).max() <= 1


def test_it_needs_neither_its_file_nor_anything_else(translate, model_file, tmp_path):
    copy = tmp_path / "copy.pb"
    shutil.copytree(model_file, copy)
    other = model_files.load(copy)
    shutil.rmtree(copy)
    gc.collect()
    picture = draw(0)[None]
    assert np.array_equal(other(picture), translate(picture))


def test_it_imports_no_training_code():
    heavy = {"generator", "discriminator", "model", "ops", "reader", "train"}
    program = f"import sys; from formats import translator; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), MemoryError),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), MemoryError),
        (RuntimeError("no such\ndevice"), InputError),
    ],
)
def test_too_little_memory_is_pythons_error_whatever_runs_the_model(error, raised):
    def fail(*inputs):
        raise error

    model = Translator(Path("m.pb"), {}, "CPU", fail, measure=fail, run_part=fail)
    for ask in (model, model.statistics, lambda some: model(some, np.zeros((2, 9)))):
        with pytest.raises(raised, match=MEMORY if raised is MemoryError else FAILED):
            ask(draw(0, 8, 8)[None])


def test_parts_are_translated_with_the_statistics_of_the_whole():
    def run_part(parts, statistics):
        return parts + statistics.astype(np.uint8)

    model = Translator(Path("m.pb"), {}, "CPU", lambda some: some, measure=lambda parts: parts.max(), run_part=run_part)
    some = draw(0, 8, 8)[None]
    assert model(some) is some and model.statistics(some) == some.max()
    assert np.array_equal(model(some, np.array(3)), some + np.uint8(3))
    assert Translator(Path("m.pb"), {}, "CPU", lambda some: some).statistics(some) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda some: some.astype(np.float32),
        lambda some: some[0],
        lambda some: some[..., :1],
        lambda some: some[:0],
        lambda some: some[:, :5, :5],
        lambda some: [some],
        lambda some: None,
    ],
    ids=["float", "rank", "grey", "empty", "small", "list", "nothing"],
)
def test_what_is_no_picture_of_the_same_size_is_not_taken_for_a_translation(make):
    model = Translator(Path("m.pb"), {}, "CPU", make, measure=make, run_part=lambda some, statistics: make(some))
    for statistics in (None, np.zeros((2, 9))):
        with pytest.raises(InputError, match="^m.pb: makes .*; export it anew$"):
            model(draw(0, 8, 8)[None], statistics)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "image_size None"),
        *(({"image_size": value}, "image_size ") for value in (None, "256", -5, 0, 2.5, float("nan"), True, [256], 10**12)),
        ({"image_size": 32, "multiple": 0}, "multiple 0"),
        ({"image_size": 32, "smallest": 10**6}, "smallest 1000000"),
        ({"image_size": 32, "ngf": 0}, "ngf 0"),
        ({"image_size": 32, "source": 5}, "source 5, which should be a text"),
        ({"image_size": 32, "format_version": "x" * 99}, "format_version 'xxxx"),
        ({"format_version": 2}, "of format 2, which a newer version of this program made"),
    ],
)
def test_metadata_that_cannot_be_are_told(said, words):
    with pytest.raises(InputError) as refused:
        translator.parse(json.dumps(said))
    assert words in str(refused.value) and "export it anew" in str(refused.value) and len(str(refused.value)) < 140


def damage(file: Path, model_file: Path) -> None:
    shutil.copytree(model_file, file)
    data = (file / "saved_model.pb").read_bytes()
    (file / "saved_model.pb").write_bytes(data[: len(data) // 2])


def save_foreign(file: Path, model_file: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([], tf.float32, "x")])
    tf.saved_model.save(module, str(file), {"serving_default": module.double})


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda file, model_file: None, "no such model; make it with export_graph.py"),
        (lambda file, model_file: file.write_bytes(b"a frozen graph"), "no model; make one with export_graph.py"),
        (lambda file, model_file: file.mkdir(), "a folder without saved_model.pb"),
        (damage, "damaged"),
        (save_foreign, "not one of export_graph.py \\(its signatures: serving_default\\)"),
        (lambda file, model_file: tf.saved_model.save(tf.Module(), str(file)), "not one of export_graph.py \\(its signatures: none\\)"),
    ],
    ids=["missing", "file", "folder", "damaged", "foreign", "no signatures"],
)
def test_what_is_no_model_of_ours_is_told_apart(tmp_path, model_file, make, words):
    file = tmp_path / "model.pb"
    make(file, model_file)
    with pytest.raises(InputError, match=f"^{file}: .*{words}"):
        model_files.load(file)
