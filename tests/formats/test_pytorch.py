"""What becomes of the state dicts of generators that others wrote: the same pictures."""

from pathlib import Path

import numpy as np
import pytest
from torch_networks import Generator, UNet, nn, save, torch, translate

import generator
from formats import pytorch


def convert(file: Path, norm: str | None = None) -> generator.Generator | generator.UNet:
    """What the command does before it writes: our generator with the file's weights."""
    layers = pytorch.find(pytorch.read(file))
    norm = pytorch.normalization(layers, norm)
    pytorch.check(layers, norm)
    kind, *numbers = pytorch.size(layers)
    ours = {"resnet": generator.Generator, "unet": generator.UNet}[kind](*numbers, norm, "transpose")
    pytorch.assign(ours, layers, norm)
    return ours


def make(**options) -> nn.Module:
    return (UNet if "levels" in options else Generator)(**options)


def assert_same(network: nn.Module, ours) -> None:
    size = (ours.multiple, 2 * ours.multiple) if isinstance(ours, generator.UNet) else (32, 72)
    x = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    expected = translate(network, x)
    assert expected.std((1, 2)).min() > 0.1 and np.abs(expected).mean() < 0.9  # not flat, nor saturated: a difference would be seen
    assert np.abs(ours(x, training=False).numpy() - expected).max() <= 1e-4


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
    "affine": ({"norm": "affine"}, None, {}),
    "affine, no biases, 8 filters": ({"norm": "affine", "bias": False, "ngf": 8}, None, {}),
    "running statistics": ({"norm": "tracked"}, None, {}),
    "no blocks": ({"norm": "affine", "blocks": 0}, None, {}),
    "1 block": ({"blocks": 1}, None, {}),
    "dropout": ({"dropout": True, "norm": "affine"}, None, {}),
    "another word for conv_block": ({"word": "block"}, None, {}),
    "module.": ({}, lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, {}),
    "state_dict, module.": ({}, lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, {}),
    "G": ({}, lambda state: {"G": state}, {}),
    "beside others": ({"norm": "affine"}, described, {}),
    "sorted by name": ({"norm": "affine"}, sorted_by_name, {}),
    "before PyTorch 1.6": ({}, None, {"_use_new_zipfile_serialization": False}),
    "float64": ({"norm": "affine"}, lambda state: {name: tensor.double() for name, tensor in state.items()}, {}),
    "batch": ({"norm": "batch", "bias": False}, None, {}),
    "U-Net of the authors, 8 levels": ({"levels": 8}, None, {}),
    "U-Net of the authors, 7 levels": ({"levels": 7, "dropout": True}, None, {}),
    "U-Net, instance norm": ({"levels": 5, "norm": "instance"}, None, {}),
    "U-Net, affine, no biases, 3 filters": ({"levels": 4, "norm": "affine", "bias": False, "ngf": 3}, None, {}),
    "U-Net, running statistics": ({"levels": 3, "norm": "tracked"}, None, {}),
    "U-Net, 2 levels": ({"levels": 2}, None, {}),
    "U-Net, module.": ({"levels": 3}, lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, {}),
    "U-Net beside others": ({"levels": 3}, described, {}),
    "U-Net sorted by name": ({"levels": 3}, sorted_by_name, {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_pytorchs_pictures(tmp_path, layout):
    options, change, how = LAYOUTS[layout]
    network = make(**options)
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
        ({"levels": 3, "norm": "tracked affine", "bias": True}, "instance"),
    ],
)
def test_norm_decides_where_the_file_does_not(tmp_path, options, norm):
    network = make(**options)
    assert_same(network, convert(save(tmp_path / "G.pth", network.state_dict()), norm))


@pytest.mark.parametrize("options", [{"levels": 3}, {"levels": 3, "bias": True}, {"blocks": 0, "bias": False}])
def test_batch_norm_can_be_of_each_picture(tmp_path, options):
    """As the authors' test.py has it, whose networks stay in training."""
    network = make(**{"norm": "batch", **options})
    file = save(tmp_path / "G.pth", network.state_dict())
    assert_same(network.train(), convert(file, "instance"))


def test_weights_that_were_saved_on_a_gpu_are_read_without_one(tmp_path, monkeypatch):
    network = Generator(blocks=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        file = save(tmp_path / "G.pth", network.state_dict())
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(file, weights_only=True)
    assert_same(network, convert(file))
