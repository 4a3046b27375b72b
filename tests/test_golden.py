"""What users have from earlier versions: their runs go on to the same numbers, and their models give the same pictures."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from golden.make import LAST, MODELS, RUNS, STEP, machine

import export_graph
from formats import model_files
from pictures import images
from system import cli

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module", params=RUNS)
def golden(request, tmp_path_factory) -> Path:
    """A folder with the golden files, one of them a run of its own name."""
    return extract(tmp_path_factory.mktemp("golden") / request.param)


def extract(folder: Path, name: str | None = None) -> Path:
    """Fills a folder that is called as a golden run, or with that `name`."""
    with tarfile.open(GOLDEN / f"{name or folder.name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def assert_same_picture(model: Path, golden: Path, expected: str) -> None:
    picture, expected = images.read(golden / "picture.png"), images.read(golden / expected)
    assert expected.std() > 10  # a model that has lost its weights makes grey
    assert np.abs(model_files.load(model)(picture[None])[0].astype(int) - expected).max() <= 1  # rounding


@pytest.fixture(scope="module")
def continued(tmp_path_factory) -> dict[str, dict]:
    """What the golden runs end with when a process continues them that has done nothing else.

    TensorFlow keeps, for each thread and shape, the kernel of a convolution that it chose first. That may be the one for constant weights,
    if a model file was used before, and adds up in another order.
    """
    folders = [tmp_path_factory.mktemp("continued") / name for name in RUNS]
    for folder in folders:
        extract(folder)
    return json.loads(
        subprocess.run([sys.executable, GOLDEN / "make.py", *folders], check=True, stdout=subprocess.PIPE).stdout.split(b"\n")[-2]
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_run_continues_to_the_same_numbers(continued, name, tmp_path):
    extract(tmp_path, name)
    found, expected = continued[name], json.loads((tmp_path / "expected.json").read_text())
    more = found["scalars"].keys() - expected["scalars"].keys()
    assert more <= {"health/G_averages_off", "health/F_averages_off"}  # which came later
    found["scalars"] = {tag: values for tag, values in found["scalars"].items() if tag not in more}
    if machine() == expected.pop("machine"):
        assert found == expected  # to the bit
    for kind in ("tensors", "scalars"):
        assert found[kind].keys() == expected[kind].keys()
    for key, (magnitude, _) in expected["tensors"].items():
        assert found["tensors"][key][0] == pytest.approx(magnitude, rel=1e-5, abs=1e-5), key
    for key, values in expected["scalars"].items():
        assert len(values) == LAST - STEP and found["scalars"][key] == pytest.approx(values, rel=1e-5, abs=1e-5), key


@pytest.mark.parametrize("suffix", MODELS)
def test_a_model_translates_as_it_did(golden, suffix):
    assert_same_picture(golden / f"{golden.name}{suffix}", golden, f"{golden.name}{suffix}.png")


def test_a_run_is_exported_as_it_was(call, golden, tmp_path):
    models = ["--XtoY_model", tmp_path / "there.pb", "--YtoX_model", tmp_path / "back.pb"]
    assert call(export_graph.main, "--checkpoint_dir", golden / golden.name, *models).status == cli.DONE
    assert_same_picture(tmp_path / "there.pb", golden, f"{golden.name}.pb.png")
