"""ONNX files run anywhere, on any device, and say so where they cannot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, snapshot
from untrained import EACH_UNET, assert_translates, unet

import export_graph
import inference
from formats import model_files, onnx
from generator import Generator
from pictures import images
from system.cli import InputError

onnxruntime = pytest.importorskip("onnxruntime", reason="bash scripts/setup.sh onnx installs it")
from onnx import TensorProto, helper, load_model  # noqa: E402


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(2, 1)


@pytest.fixture(scope="module")
def file(generator, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "red2blue.onnx"
    onnx.write(generator, {"image_size": 32, "source": "red", "target": "blue"}, file)
    return file


def test_it_runs_without_any_code_of_the_project(file, tmp_path):
    some = np.stack([draw(seed, 30, 61) for seed in range(2)])
    np.save(tmp_path / "pictures.npy", some)
    code = f"""
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(file)!r})
(translated,) = session.run(["output_image"], {{"input_image": np.load("pictures.npy")}})
np.save("translated.npy", translated)
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "translated.npy"), model_files.load(file)(some))


@EACH_UNET
def test_a_unet_translates_the_same(tmp_path, norm, upsample):
    generator = unet(norm, upsample)
    onnx.write(generator, {"image_size": 32, "multiple": 8, "smallest": 8}, tmp_path / "model")
    assert_translates(model_files.load(tmp_path / "model"), generator)


def test_the_device_is_the_one_that_onnx_runtime_computes_on(call, file, tmp_path, monkeypatch):
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: providers)
    images.write(tmp_path / "a.png", draw(0))
    outcome = call(inference.main, "--model", file, "--input", tmp_path / "a.png", "--output", tmp_path / "b.png")
    assert "1 of 1 translated on CUDA in " in outcome.out


def test_a_model_with_other_inputs_and_outputs_is_foreign(generator, file, tmp_path):
    (tmp_path / "model").write_bytes(file.read_bytes().replace(b"generated", b"untouched"))
    with pytest.raises(InputError, match="ONNX model, but not one of export_graph.py$"):
        model_files.load(tmp_path / "model")


def test_onnx_runtime_may_be_missing(call, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=f"^{file}: .*not installed: bash scripts/setup.sh onnx$"):
        model_files.load(file)
    outcome = call(export_graph.main, "--checkpoint_dir", tmp_path, "--export_dir", tmp_path / "new", "--format", "onnx")
    outcome.assert_refused("--format onnx", "onnxruntime not installed", "setup.sh onnx")
    assert snapshot(tmp_path) == {}


def odd(file: Path, change) -> Path:
    """Writes a model that is changed by `change` beside it."""
    model = load_model(file, load_external_data=False)
    change(model)
    (file.parent / "odd.onnx").write_bytes(model.SerializeToString())
    return file.parent / "odd.onnx"


def other_domain(nodes) -> None:
    nodes[0].domain = "com.example"


def in_a_branch(model) -> None:
    node = model.graph.node.add(op_type="If")
    node.attribute.append(
        helper.make_attribute("then_branch", helper.make_graph([helper.make_node("Any", [], [], domain="com.x")], "g", [], []))
    )


def elsewhere(tensor) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")


REFUSED = {
    "operations that are not ONNX's own (com.example.": lambda model: other_domain(model.graph.node),
    "operations that are not ONNX's own (com.x.Any)": in_a_branch,
    "operations that are not ONNX's own (other.Any)": lambda model: model.functions.add().node.add(op_type="Any", domain="other"),
    "weights in other files": lambda model: elsewhere(next(t for t in model.graph.initializer if t.raw_data)),
    "weights in other files, ": lambda model: elsewhere(model.graph.node.add(op_type="Constant").attribute.add(name="value", type=4).t),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_pictures_do_not_need_is_refused(file, words):
    with pytest.raises(InputError) as refused:
        model_files.load(odd(file, REFUSED[words]))
    assert words in str(refused.value) and "--trust_model" in str(refused.value)


def test_trust_leaves_the_rest_to_onnx_runtime(file):
    with pytest.raises(InputError, match="damaged ONNX model"):
        model_files.load(odd(file, lambda model: other_domain(model.graph.node)), trust=True)
