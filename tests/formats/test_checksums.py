"""A model that was damaged since it was exported is noticed, whatever kind it is, and wherever the damage is."""

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from conftest import draw
from untrained import Shallow

import inference
from formats import checksums, model_files
from pictures import images
from system.cli import InputError

KINDS = ["saved_model", "tflite", *(["onnx"] if importlib.util.find_spec("onnxruntime") else [])]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A model of each kind; to be read only."""
    folder, made = tmp_path_factory.mktemp("sealed"), {}
    about = {"image_size": 32, "source": "red", "target": "blue"}
    for kind in KINDS:
        made[kind] = folder / f"red2blue{model_files.KINDS[kind].suffix}"
        model_files.write([(Shallow(4), about, made[kind])], kind, pictures=draw(0, 32, 32)[None])
    return made


def copy(model: Path, folder: Path) -> Path:
    return Path((shutil.copytree if model.is_dir() else shutil.copy)(model, folder / model.name))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_anywhere_in_it(call, models, tmp_path, kind):
    model = copy(models[kind], tmp_path)
    images.write(tmp_path / "in.png", draw(0))
    for file in sorted(model.rglob("*")) if model.is_dir() else [model]:
        whole = file.read_bytes() if file.is_file() else b""
        for place in range(40, len(whole), max(1, len(whole) // 5)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(InputError, match=rf"^{model}: damaged: .*; fetch it again, or export it anew$"):
                model_files.load(model)
        if whole:
            outcome = call(inference.main, "--model", model, "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
            outcome.assert_refused(str(model), "damaged")
            file.write_bytes(whole)
    model_files.load(model)


def test_a_file_of_a_savedmodel_can_be_missing(models, tmp_path):
    model = copy(models["saved_model"], tmp_path)
    (model / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match="variables/variables.index in it, it is missing"):
        model_files.load(model)


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_told_apart_by_what_is_loaded_of_them(models, tmp_path, kind):
    model = copy(models[kind], tmp_path)
    found = model_files.load(models[kind]).checksum
    assert len(found) == 16
    if model.is_dir():
        (model / "README.md").write_text("of mine")
        (model / checksums.SUMS).unlink()
        assert checksums.of(model, None) == found
        part = model / "variables" / "variables.index"
    else:
        assert found == hashlib.sha256(model.read_bytes()).hexdigest()[:16]
        part = model
    part.write_bytes(part.read_bytes() + b" ")
    assert checksums.of(model, None if model.is_dir() else part.read_bytes()) != found


@pytest.mark.parametrize("text", ["", "no list\n", f"{'0' * 64}  fingerprint.pb\n", f"{'0' * 64}  ../x\n", b"\xff\xfe"])
def test_the_list_itself_can_be_damaged(models, tmp_path, text):
    model = copy(models["saved_model"], tmp_path)
    (model / checksums.SUMS).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="damaged"):
        model_files.load(model)


def test_others_can_check_a_savedmodel_and_may_put_files_beside_it(models, tmp_path):
    model = copy(models["saved_model"], tmp_path)
    lines = dict(reversed(line.split("  ")) for line in (model / "SHA256SUMS").read_text().splitlines())
    files = [file for file in model.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
    assert lines == {file.relative_to(model).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (model / ".DS_Store").write_bytes(b"macOS")
    (model / "README").write_text("of another's")
    text = (model / "SHA256SUMS").read_bytes()
    (model / "SHA256SUMS").write_bytes(text.replace(b"\n", b"\r\n"))  # a checkout on Windows
    model_files.load(model)
    (model / "SHA256SUMS").write_bytes(b"\n".join(map(shouted, text.splitlines())) + b"\n\n")
    model_files.load(model)


def shouted(line: bytes) -> bytes:
    """As other programs write it."""
    sum, name = line.split(b"  ")
    return sum.upper() + b" *./" + name


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_each_part_has_to_be_in_the_list(models, tmp_path, name):
    model = copy(models["saved_model"], tmp_path)
    lines = (model / "SHA256SUMS").read_text().splitlines(keepends=True)
    (model / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))
    with pytest.raises(InputError, match=f"damaged: {name} in it, it is not in SHA256SUMS"):
        model_files.load(model)


@pytest.mark.parametrize("sealed", [True, False])
def test_nobody_waits_for_a_pipe_in_a_model(models, tmp_path, sealed):
    model = copy(models["saved_model"], tmp_path)
    if not sealed:
        (model / "SHA256SUMS").unlink()
    (model / "variables" / "variables.index").unlink()
    os.mkfifo(model / "variables" / "variables.index")
    with pytest.raises(InputError, match="variables/variables.index in it is a pipe or a device"):
        model_files.load(model)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_the_list_is_a_file(models, tmp_path, make):
    model = copy(models["saved_model"], tmp_path)
    (model / "SHA256SUMS").unlink()
    make(model / "SHA256SUMS")
    with pytest.raises(InputError, match="damaged: SHA256SUMS in it is "):
        model_files.load(model)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"saved_model"}))
def test_others_can_check_a_file(models, kind):
    data = models[kind].read_bytes()
    sum = model_files.load(models[kind]).metadata["sha256"]
    assert data.count(sum.encode()) == 1
    assert hashlib.sha256(data.replace(sum.encode(), b"0" * 64)).hexdigest() == sum


def test_a_model_from_before_there_were_checksums_loads(models, tmp_path):
    model = copy(models["saved_model"], tmp_path)
    (model / checksums.SUMS).unlink()
    model_files.load(model)
    checksums.verify(tmp_path / "any.onnx", b"no checksum in it")
