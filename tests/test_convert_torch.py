"""Generators in PyTorch, written as the paper's authors and others write them, and what becomes of their state dicts."""

import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot

import convert_torch
import export_graph
from formats import translator
from system import cli
from utils import convert2float, convert2int

torch = pytest.importorskip("torch", reason="bash scripts/setup.sh torch installs it")
from torch import nn  # noqa: E402

NORMS = {
    "instance": lambda k: nn.InstanceNorm2d(k),
    "tracked": lambda k: nn.InstanceNorm2d(k, track_running_stats=True),
    "affine": lambda k: nn.InstanceNorm2d(k, affine=True),
    "tracked affine": lambda k: nn.InstanceNorm2d(k, affine=True, track_running_stats=True),
    "batch": lambda k: nn.BatchNorm2d(k, momentum=1.0),
    "batch without scale": lambda k: nn.BatchNorm2d(k, momentum=1.0, affine=False),
    "none": lambda k: nn.Identity(),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """PyTorch's threads and TensorFlow's wait for each other busily: with more than one, what takes 20 ms can take seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Block(nn.Module):
    def __init__(self, k, norm, bias, dropout, word):
        super().__init__()
        convolution = lambda: (nn.ReflectionPad2d(1), nn.Conv2d(k, k, 3, bias=bias), NORMS[norm](k))  # noqa: E731
        setattr(self, word, nn.Sequential(*convolution(), nn.ReLU(), *([nn.Dropout(0.5)] if dropout else []), *convolution()))
        self.word = word

    def forward(self, x):
        return x + getattr(self, self.word)(x)


class Generator(nn.Module):
    """The authors' ResNet generator, its weights and statistics random. (B, 3, H, W) in [-1, 1] → the same."""

    def __init__(self, norm="instance", bias=True, dropout=False, word="conv_block", blocks=2, ngf=4):
        super().__init__()
        torch.manual_seed(0)
        k = ngf
        norm_relu = lambda k: (NORMS[norm](k), nn.ReLU())  # noqa: E731
        self.model = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(3, k, 7, bias=bias), *norm_relu(k)),
            *(nn.Conv2d(k, 2 * k, 3, 2, 1, bias=bias), *norm_relu(2 * k)),
            *(nn.Conv2d(2 * k, 4 * k, 3, 2, 1, bias=bias), *norm_relu(4 * k)),
            *(Block(4 * k, norm, bias, dropout, word) for _ in range(blocks)),
            *(nn.ConvTranspose2d(4 * k, 2 * k, 3, 2, 1, 1, bias=bias), *norm_relu(2 * k)),
            *(nn.ConvTranspose2d(2 * k, k, 3, 2, 1, 1, bias=bias), *norm_relu(k)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(k, 3, 7), nn.Tanh()),
        )
        for name, tensor in self.state_dict().items():
            if tensor.ndim == 1:
                low, high = (0.5, 1.5) if name.endswith(("weight", "var")) else (-0.5, 0.5)
                tensor.uniform_(low, high)
        if norm.startswith("batch"):
            with torch.no_grad():
                self(torch.rand(1, 3, 64, 64) * 2 - 1)  # running statistics that fit the weights
        # The authors' test.py leaves the network in training mode, in which instance normalisation takes each picture's own statistics.
        self.train(not norm.startswith("batch") and not dropout)

    def forward(self, x):
        return self.model(x)


def save(file: Path, content, **how) -> Path:
    torch.save(content, file, **how)
    return file


def translate(network: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """(B, H, W, 3) in [-1, 1] → the same."""
    with torch.no_grad():
        return network(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)


def convert(file: Path, norm: str | None = None):
    """What the command does before it writes: our generator with the file's weights."""
    layers = convert_torch.find(convert_torch.read(file))
    return convert_torch.build(layers, convert_torch.normalization(layers, norm))


def assert_same(network: nn.Module, ours, sizes=(128, 256)) -> None:
    for size in sizes:
        x = np.random.default_rng(size).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
        expected = translate(network, x)
        assert expected.std((1, 2)).min() > 0.1 and np.abs(expected).mean() < 0.9  # not flat, nor saturated: a difference would be seen
        difference = np.abs(ours(x, training=False).numpy() - expected).max()
        print(f"{size}: {difference:.1e}")
        assert difference <= 1e-4


def sorted_by_name(state: dict) -> dict:
    return dict(sorted(state.items()))


def described(state: dict) -> dict:
    """As Lightning and others save: the network beside an optimizer, the epoch and a discriminator."""
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4)).state_dict()
    optimizer = {
        "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(4, 3, 7, 7)}},
        "param_groups": [{"lr": 2e-4, "params": [0]}],
    }
    return {"epoch": 200, "netD": discriminator, "netG": state, "optimizer": optimizer}


LAYOUTS = {
    "authors, 9 blocks": ({"blocks": 9}, None, {}),
    "authors, 6 blocks": ({"blocks": 6}, None, {}),
    "affine, 6 blocks": ({"norm": "affine", "blocks": 6}, None, {}),
    "affine, 9 blocks, no biases, 8 filters": ({"norm": "affine", "bias": False, "blocks": 9, "ngf": 8}, None, {}),
    "running statistics": ({"norm": "tracked"}, None, {}),
    "no blocks": ({"norm": "affine", "blocks": 0}, None, {}),
    "1 block": ({"blocks": 1}, None, {}),
    "dropout": ({"dropout": True, "norm": "affine"}, None, {}),
    "another word for conv_block": ({"word": "block"}, None, {}),
    "module.": ({}, lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, {}),
    "state_dict, module.": ({}, lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, {}),
    "G": ({}, lambda state: {"G": state}, {}),
    "beside others": ({"norm": "affine"}, described, {}),
    "sorted by name": ({"norm": "affine", "blocks": 12}, sorted_by_name, {}),
    "before PyTorch 1.6": ({}, None, {"_use_new_zipfile_serialization": False}),
    "float64": ({"norm": "affine"}, lambda state: {name: tensor.double() for name, tensor in state.items()}, {}),
    "batch, 9 blocks": ({"norm": "batch", "bias": False, "blocks": 9}, None, {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_pytorchs_pictures(tmp_path, layout):
    options, change, how = LAYOUTS[layout]
    network = Generator(**options)
    state = network.state_dict()
    file = save(tmp_path / "latest_net_G.pth", change(state) if change else state, **how)
    assert_same(network, convert(file))


@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({"norm": "tracked affine", "bias": True}, "instance"),
        ({"norm": "tracked affine", "bias": False}, "instance"),
        ({"norm": "tracked", "bias": False}, "instance"),
        ({"norm": "instance", "bias": False}, "instance"),
        ({"norm": "batch", "bias": True}, "batch"),
        ({"norm": "batch without scale", "bias": True}, "batch"),
    ],
)
def test_norm_decides_where_the_file_does_not(tmp_path, options, norm):
    network = Generator(**options)
    assert_same(network, convert(save(tmp_path / "G.pth", network.state_dict()), norm), sizes=[128])


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


def test_weights_that_were_saved_on_a_gpu_are_read_without_one(tmp_path, monkeypatch):
    network = Generator(blocks=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        file = save(tmp_path / "G.pth", network.state_dict())
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(file, weights_only=True)
    assert_same(network, convert(file), sizes=[128])


def test_the_command_writes_a_model_that_translates_as_pytorch_does(call, tmp_path):
    network = Generator("affine", blocks=6)
    file, output = save(tmp_path / "latest_net_G.pth", network.state_dict()), tmp_path / "pretrained/horse2zebra.pb"
    outcome = call(convert_torch.main, "--weights", file, "--output", output)
    assert (outcome.status, outcome.err) == (cli.DONE, "")
    assert "horse → zebra" in outcome.out and "4 filters, 6 residual blocks, instance" in outcome.out
    model = translator.load(output)
    assert model.metadata == {
        "format_version": 1,
        "generator": "resnet",
        "image_size": 256,
        "norm": "instance",
        "ngf": 4,
        "precision": "float32",
        "converted_from": "latest_net_G.pth",
        "source": "horse",
        "target": "zebra",
    }
    for height, width in ((128, 128), (256, 256)):
        picture = draw(1, height, width)[None]
        expected = convert2int(translate(network, convert2float(picture).numpy())).numpy()
        assert np.abs(model(picture).astype(int) - expected).max() <= 1


def test_the_flags_reach_the_model_and_what_stood_there_is_moved_aside_or_replaced(call, tmp_path):
    file, output = save(tmp_path / "G.pth", Generator("batch", False, blocks=0).state_dict()), tmp_path / "style_monet.pb"
    command = [convert_torch.main, "--weights", file, "--output", output]
    outcome = call(*command, "--image_size", 512, "--source", "photo", "--target", "Monet", "--precision", "bfloat16")
    assert (outcome.status, outcome.err) == (cli.DONE, "")
    model = translator.load(output)
    nodes = [node for f in model.model.signatures["serving_default"].graph.as_graph_def().library.function for node in f.node_def]
    assert {node.attr["T"].type for node in nodes if node.op == "Conv2D"} == {tf.bfloat16.as_datatype_enum}
    metadata = model.metadata
    assert [metadata[key] for key in ("image_size", "source", "target", "precision", "norm")] == [
        512,
        "photo",
        "Monet",
        "bfloat16",
        "batch",
    ]
    outcome = call(*command)
    aside = [folder.name for folder in tmp_path.iterdir() if folder.name not in ("G.pth", "style_monet.pb")]
    assert len(aside) == 1 and aside[0] in outcome.out
    assert translator.load(tmp_path / aside[0]).metadata == metadata
    metadata = translator.load(output).metadata
    assert (metadata["source"], metadata["target"]) == ("style_monet_A", "style_monet_B")
    assert call(*command, "--overwrite").status == cli.DONE
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(["G.pth", "style_monet.pb", *aside])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("horse2zebra", ("horse", "zebra")),
        ("winter2summer_yosemite", ("winter", "summer_yosemite")),
        ("a2b2c", ("a", "b2c")),
        ("maps", ("maps_A", "maps_B")),
        ("2x", ("2x_A", "2x_B")),
    ],
)
def test_the_name_of_a_model_says_what_it_translates(name, expected):
    assert convert_torch.domains(name) == expected


def test_a_network_that_may_pad_with_zeros_is_converted_with_a_warning(call, tmp_path, monkeypatch):
    monkeypatch.setattr(export_graph, "export", lambda *_: None)
    state = Generator().state_dict()
    state = OrderedDict((name.replace("model.1.", "model.0."), tensor) for name, tensor in state.items())
    file = save(tmp_path / "G.pth", state)
    outcome = call(convert_torch.main, "--weights", file, "--output", tmp_path / "m.pb")
    assert outcome.status == cli.DONE and "m.pb" in outcome.out
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("model.0: ") and "zeros" in outcome.err


# --- what is refused


def unet(k: int = 4) -> dict:
    """A small one of the authors'."""
    inner = nn.Sequential(
        nn.LeakyReLU(0.2), nn.Conv2d(k, 2 * k, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(2 * k, k, 4, 2, 1), nn.InstanceNorm2d(k)
    )
    outer = nn.Sequential(nn.Conv2d(3, k, 4, 2, 1), inner, nn.ReLU(), nn.ConvTranspose2d(2 * k, 3, 4, 2, 1), nn.Tanh())
    return nn.Sequential(OrderedDict(model=outer)).state_dict()


def changed(name: str, change, **options) -> dict:
    """A generator's state dict in which one tensor is another; None: it is missing."""
    state = Generator(**{"blocks": 1, **options}).state_dict()
    tensor = change(state[name])
    return {n: tensor if n == name else t for n, t in state.items() if n != name or tensor is not None}


def poisoned(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[3] = float("nan")
    return tensor


G, S = "model.10.conv_block.1", "model.10.conv_block.2"
REFUSED = {
    "a U-Net": (unet, ["U-Net", "only ResNet"]),
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
def test_what_is_no_resnet_generator_is_refused_in_one_line(call, tmp_path, case):
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
