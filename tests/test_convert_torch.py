"""The command: a file of PyTorch's becomes a model, or one line says why not."""

import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, snapshot
from torch_networks import Generator, UNet, nn, save, torch, translate

import convert_torch
from formats import model_files, saved_model
from system import cli
from utils import convert2float, convert2int


@pytest.fixture
def written(monkeypatch) -> list[tuple]:
    """Models are only empty folders; what they would be made of is collected here."""
    found = []

    def write_one(generator, metadata, file, *_):
        file.mkdir()
        (file / "saved_model.pb").write_text("a model")
        found.append((generator, metadata))
        return ""

    monkeypatch.setattr(model_files, "write_one", write_one)
    return found


def test_the_command_writes_a_model_that_translates_as_pytorch_does(call, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "check", lambda *_, **__: None)  # the pictures are compared here
    network = Generator("affine", blocks=1)
    file, output = save(tmp_path / "latest_net_G.pth", network.state_dict()), tmp_path / "pretrained/horse2zebra.pb"
    outcome = call(convert_torch.main, "--weights", file, "--output", output)
    assert (outcome.status, outcome.err) == (cli.DONE, "")
    assert "horse → zebra" in outcome.out and "4 filters, 1 residual blocks, instance" in outcome.out
    model = model_files.load(output)
    assert model.metadata == {
        "format_version": 1,
        "multiple": 4,
        "smallest": 8,
        "generator": "resnet",
        "image_size": 256,
        "norm": "instance",
        "ngf": 4,
        "precision": "float32",
        "converted_from": "latest_net_G.pth",
        "source": "horse",
        "target": "zebra",
    }
    for height, width in ((32, 32), (64, 40)):
        picture = draw(1, height, width)[None]
        expected = convert2int(translate(network, convert2float(picture).numpy())).numpy()
        assert np.abs(model(picture).astype(int) - expected).max() <= 1


def test_the_flags_reach_the_model_and_what_stood_there_is_moved_aside_or_replaced(call, tmp_path, written):
    file, output = save(tmp_path / "G.pth", Generator("batch", False, blocks=0).state_dict()), tmp_path / "style_monet.pb"
    command = [convert_torch.main, "--weights", file, "--output", output]
    outcome = call(*command, "--image_size", 512, "--source", "photo", "--target", "Monet", "--precision", "bfloat16")
    assert (outcome.status, outcome.err) == (cli.DONE, "") and "photo → Monet" in outcome.out
    ((generator, metadata),) = written
    assert generator.layers[1].compute_dtype == "bfloat16"
    expected = {"image_size": 512, "source": "photo", "target": "Monet", "precision": "bfloat16", "norm": "batch"}
    assert {key: metadata[key] for key in expected} == expected
    (output / "mark").write_text("the first")
    outcome = call(*command)
    aside = [folder for folder in tmp_path.iterdir() if folder.name not in ("G.pth", "style_monet.pb")]
    assert len(aside) == 1 and f"{output}: the model that stood there is now {aside[0]}" in outcome.out
    assert (aside[0] / "mark").read_text() == "the first"
    assert (written[1][1]["source"], written[1][1]["target"]) == ("style_monet_A", "style_monet_B")
    assert call(*command, "--overwrite").status == cli.DONE
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(["G.pth", "style_monet.pb", aside[0].name])


def test_a_network_that_may_pad_with_zeros_is_converted_with_a_warning(call, tmp_path, written):
    state = Generator().state_dict()
    state = OrderedDict((name.replace("model.1.", "model.0."), tensor) for name, tensor in state.items())
    file = save(tmp_path / "G.pth", state)
    outcome = call(convert_torch.main, "--weights", file, "--output", tmp_path / "m.pb")
    assert outcome.status == cli.DONE and "m.pb" in outcome.out
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("model.0: ") and "zeros" in outcome.err


@pytest.mark.parametrize(
    ("options", "more", "norm", "words"),
    [
        ({}, [], "batch", "3 levels, batch normalisation"),
        ({}, ["--statistics", "averages"], "batch", "3 levels, batch normalisation"),
        ({}, ["--statistics", "picture"], "instance", "3 levels, batch (of each picture by itself) normalisation"),
        ({"norm": "instance"}, [], "instance", "3 levels, instance normalisation"),
    ],
)
def test_a_unet_becomes_one_of_ours(call, tmp_path, written, options, more, norm, words):
    network = UNet(**options)
    file, output = save(tmp_path / "G.pth", network.state_dict()), tmp_path / "labels2facades.pb"
    outcome = call(convert_torch.main, "--weights", file, "--output", output, "--image_size", 24, *more)
    assert (outcome.status, outcome.err) == (cli.DONE, "") and f"labels → facades, from {file} (4 filters, {words})" in outcome.out
    ((generator, metadata),) = written
    expected = {"generator": "unet", "multiple": 8, "smallest": 8, "image_size": 24, "norm": norm, "ngf": 4}
    assert {key: metadata[key] for key in expected} == expected
    x = np.random.default_rng(0).uniform(-1, 1, (1, 24, 40, 3)).astype(np.float32)
    pictures = translate(network.train("picture" in more or "norm" in options), x)
    assert pictures.std() > 0.1 and np.abs(generator(x, training=False) - pictures).max() <= 1e-4


# --- what is refused


@pytest.mark.parametrize(
    ("options", "more", "words"),
    [
        ({"norm": "instance"}, ["--statistics", "picture"], ["--statistics picture", "is for batch normalisation", "leave it out"]),
        ({"bias": True}, ["--norm", "batch"], ["model.model.0 has a bias", "--statistics picture"]),
        ({}, ["--image_size", 28], ["--image_size 28 is not a multiple of 8: use 24 or 32"]),
        ({"levels": 5}, ["--image_size", 8], ["--image_size 8 is out of range: use at least 32"]),
    ],
)
def test_what_a_unet_cannot_be_is_one_line(call, tmp_path, options, more, words):
    file = save(tmp_path / "G.pth", UNet(**options).state_dict())
    call(convert_torch.main, "--weights", file, "--output", tmp_path / "new/m.pb", *more).assert_refused(*words)
    assert [*snapshot(tmp_path)] == ["G.pth"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "tracked affine", "bias": True}, ["--norm instance", "--norm batch"]),
        ({"norm": "tracked", "bias": False}, ["--norm instance", "--norm batch"]),
        ({"norm": "none", "bias": False}, ["--norm instance", "--norm batch"]),
    ],
)
def test_a_file_that_does_not_tell_the_norm_is_refused(call, tmp_path, options, words):
    file = save(tmp_path / "G.pth", Generator(**options).state_dict())
    call(convert_torch.main, "--weights", file, "--output", tmp_path / "new/m.pb").assert_refused(str(file), *words)
    assert [*snapshot(tmp_path)] == ["G.pth"]


def changed(name: str, change, kind=Generator, **options) -> dict:
    """A generator's state dict in which one tensor is another; None: it is missing."""
    state = kind(**({"blocks": 1} if kind is Generator else {}), **options).state_dict()
    tensor = change(state[name])
    return {n: tensor if n == name else t for n, t in state.items() if n != name or tensor is not None}


def poisoned(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[3] = float("nan")
    return tensor


G, S, U = "model.10.conv_block.1", "model.10.conv_block.2", "model.model.1.model"
REFUSED = {
    "a U-Net of one level": (lambda: UNet(levels=1).state_dict(), ["no U-Net generator", "this 2"]),
    "a U-Net with a part missing": (
        lambda: {n: t for n, t in UNet().state_dict().items() if n != f"{U}.3.model.1.weight"},
        ["no U-Net generator", "this 5"],
    ),
    "a U-Net of other widths": (lambda: changed(f"{U}.1.weight", lambda w: w[:7], UNet), ["no U-Net", f"{U}.1 is 7×4×4×4", "not 8×4×4×4"]),
    "a U-Net of grey pictures": (lambda: changed("model.model.3.weight", lambda w: w[:, :1], UNet), ["colour", "8×1×4×4", "not 8×3×4×4"]),
    "a U-Net with a norm too many": (
        lambda: {**UNet().state_dict(), "model.model.0.1.weight": torch.zeros(4)},
        ["no U-Net generator: its first convolution has a norm"],
    ),
    "a U-Net with a norm innermost": (
        lambda: {**UNet().state_dict(), f"{U}.3.model.2.weight": torch.zeros(16)},
        ["no U-Net generator: its innermost convolution has a norm"],
    ),
    "a U-Net with biases of its own": (lambda: UNet(bias=True, norm="batch").state_dict(), ["does not tell", "--norm"]),
    "no numbers in a U-Net": (lambda: changed(f"{U}.5.weight", poisoned, UNet), [f"{U}.5", "not finite"]),
    "a discriminator": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4)).state_dict(),
        ["discriminator"],
    ),
    "a discriminator of single pixels": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)).state_dict(), ["discriminator"]),
    "no convolutions": (lambda: nn.Linear(3, 4).state_dict(), ["no state dict", "convolutions"]),
    "an optimizer": (
        lambda: {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 2e-4}]},
        ["no state dict", "convolutions"],
    ),
    "a list": (lambda: [torch.zeros(3)], ["no state dict"]),
    "an empty dict": (dict, ["no state dict"]),
    "another network": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).state_dict(), ["no ResNet generator", "this 2"]),
    "grey pictures": (lambda: changed("model.1.weight", lambda w: w[:, :1]), ["model.1 is 4×1×7×7", "not 4×3×7×7"]),
    "a missing layer": (lambda: changed(f"{G}.weight", lambda w: None, bias=False), ["no ResNet generator", "this 7"]),
    "upsampling otherwise": (lambda: changed("model.11.weight", lambda w: w.transpose(0, 1)), ["model.11 is 8×16×3×3"]),
    "a bias of the wrong length": (lambda: changed(f"{G}.bias", lambda b: b[1:]), [G, "(15,)"]),
    "integers": (lambda: changed(f"{G}.weight", lambda w: w.int()), [G, "int32"]),
    "no numbers": (lambda: changed(f"{G}.weight", poisoned), [G, "not finite"]),
    "no numbers in statistics": (
        lambda: changed(f"{S}.running_var", poisoned, norm="batch", bias=False),
        [G, "not finite"],
    ),
    "no numbers in a norm": (lambda: changed("model.2.weight", poisoned, norm="affine"), ["model.1 has", "not finite"]),
    "an unknown tensor": (lambda: {**Generator().state_dict(), "model.4.filt": torch.zeros(1)}, ["no ResNet generator", "model.4.filt"]),
    "a norm too many": (lambda: {**Generator().state_dict(), "model.99.weight": torch.zeros(3)}, ["no ResNet generator", "last"]),
    "a norm first": (lambda: {"model.0.weight": torch.zeros(3), **Generator().state_dict()}, ["model.0 follows no convolution"]),
    "two generators": (lambda: {"G_A": Generator().state_dict(), "G_B": Generator().state_dict()}, ["2 generators (G_A, G_B)"]),
    "a whole network": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), ["any code", "state_dict()"]),
    "code": (lambda: {"model.1.weight": print}, ["any code", "state_dict()"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_generator_is_refused_in_one_line(call, tmp_path, case):
    content, words = REFUSED[case]
    file = save(tmp_path / "G.pth", content())
    call(convert_torch.main, "--weights", file, "--output", tmp_path / "new/m.pb").assert_refused("--weights", str(file), *words)
    assert [*snapshot(tmp_path)] == ["G.pth"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_files_are_refused_in_one_line(call, tmp_path, zipped, share):
    file = save(tmp_path / "G.pth", Generator().state_dict(), _use_new_zipfile_serialization=zipped)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    call(convert_torch.main, "--weights", file, "--output", tmp_path / "new/m.pb").assert_refused(str(file), "damaged")
    assert [*snapshot(tmp_path)] == ["G.pth"]


@pytest.mark.parametrize(
    "data", [b"hello world\n", b"\x89PNG\r\n\x1a\n" * 9, bytes(range(256)) * 9, b"\x80\x04N.", b"PK\x05\x06" + bytes(18)]
)
def test_garbage_is_refused_in_one_line(call, tmp_path, data):
    (tmp_path / "G.pth").write_bytes(data)
    call(convert_torch.main, "--weights", tmp_path / "G.pth", "--output", tmp_path / "m.pb").assert_refused("G.pth", "damaged")
    assert [*snapshot(tmp_path)] == ["G.pth"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's, that there are newer formats
def test_a_torchscript_archive_is_refused_in_one_line(call, tmp_path):
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 4, 3)), tmp_path / "G.pt")
    call(convert_torch.main, "--weights", tmp_path / "G.pt", "--output", tmp_path / "m.pb").assert_refused("G.pt", "state_dict()")


def test_a_dict_that_holds_itself_is_refused_in_one_line(call, tmp_path):
    content = {}
    content["self"] = content
    file = save(tmp_path / "G.pth", content)
    call(convert_torch.main, "--weights", file, "--output", tmp_path / "m.pb").assert_refused("G.pth", "damaged")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "nowhere.pth"], ["nowhere.pth", "no such file"]),
        (["--weights", "taken"], ["taken", "no such file"]),
        (["--output", "taken"], ["taken", "no SavedModel"]),
        (["--output", "G.pth"], ["G.pth", "no SavedModel"]),
        (["--output", "G.pth/m.pb"], ["G.pth", "no folder"]),
        (["--weights", "model.pb/G.pth", "--output", "model.pb"], ["--output model.pb", "a folder above"]),
        (["--image_size", "30"], ["--image_size", "30"]),
        (["--norm", "batch"], ["--norm batch", "running statistics"]),
        (["--norm", "layer"], ["--norm", "layer"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(call, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    save(Path("G.pth"), Generator(blocks=1).state_dict())
    for folder in ("taken", "model.pb"):
        Path(folder).mkdir()
        shutil.copy("G.pth", folder)
    Path("model.pb/saved_model.pb").write_text("a model")
    before = snapshot(tmp_path)
    call(convert_torch.main, "--weights", "G.pth", "--output", "new/m.pb", *flags).assert_refused(*words)
    assert snapshot(tmp_path) == before and not Path("new").exists()


def test_without_pytorch_the_command_says_how_to_get_it_before_anything_slow(tmp_path):
    (tmp_path / "G.pth").write_text("weights")
    code = """
import sys
sys.modules["torch"] = None  # what import takes for a package that is not there
from system import cli
import convert_torch
status = cli.run(convert_torch.main, ["--weights", "G.pth", "--output", "m.pb"])
sys.exit(99 if "tensorflow" in sys.modules or "keras" in sys.modules else status)
"""
    root = str(Path(convert_torch.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True)
    assert done.returncode == cli.WRONG_INPUT, done.stderr
    assert done.stderr.count("\n") == 1 and "setup.sh torch" in done.stderr
    assert [*snapshot(tmp_path)] == ["G.pth"]
