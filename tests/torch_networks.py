"""The networks in PyTorch, written as the paper's authors and others write them."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="bash scripts/setup.sh torch installs it")
from torch import nn  # noqa: E402

torch.set_num_threads(1)  # PyTorch's threads and TensorFlow's wait for each other busily: what takes 20 ms could take seconds

NORMS = {
    "instance": lambda k: nn.InstanceNorm2d(k),
    "tracked": lambda k: nn.InstanceNorm2d(k, track_running_stats=True),
    "affine": lambda k: nn.InstanceNorm2d(k, affine=True),
    "tracked affine": lambda k: nn.InstanceNorm2d(k, affine=True, track_running_stats=True),
    "batch": lambda k: nn.BatchNorm2d(k, momentum=1.0),
    "batch without scale": lambda k: nn.BatchNorm2d(k, momentum=1.0, affine=False),
    "none": lambda k: nn.Identity(),
}


def fill(network: nn.Module, pictures: torch.Tensor) -> None:
    """Gives weights random numbers that keep contrast, and batch normalisation running statistics that fit them."""
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            nn.init.kaiming_normal_(tensor)
        if tensor.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(("weight", "var")) else (-0.5, 0.5)
            tensor.uniform_(low, high)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        with torch.no_grad():
            network(pictures * 2 - 1)


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
        fill(self, torch.rand(1, 3, 64, 64))
        # The authors' test.py leaves the network in training mode, in which instance normalisation takes each picture's own statistics.
        self.train(not norm.startswith("batch") and not dropout)

    def forward(self, x):
        return self.model(x)


class Level(nn.Module):
    """A level of the authors' U-Net with all that are inside it; beside what it makes of its input it returns that, but the outermost."""

    def __init__(self, above, widths, norm, bias, dropout, outermost=False):
        super().__init__()
        k, *inner = widths
        self.outermost = outermost
        down = nn.Conv2d(3 if outermost else above, k, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(k * (2 if inner else 1), 3 if outermost else above, 4, 2, 1, bias=bias or outermost)
        layers = [down] if outermost else [nn.LeakyReLU(0.2, inplace=True), down]
        if inner:
            layers += [*([] if outermost else [NORMS[norm](k)]), Level(k, inner, norm, bias, dropout)]
        layers += [nn.ReLU(inplace=True), up, nn.Tanh() if outermost else NORMS[norm](above)]
        self.model = nn.Sequential(*layers, *([nn.Dropout(0.5)] if dropout and inner and not outermost else []))

    def forward(self, x):
        y = self.model(x)
        return y if self.outermost else torch.cat([x, y], 1)


class UNet(nn.Module):
    """The authors' U-Net, its weights and statistics random. (B, 3, H, W) in [-1, 1] → the same."""

    def __init__(self, norm="batch", levels=3, ngf=4, bias=None, dropout=False):
        super().__init__()
        torch.manual_seed(0)
        widths = [ngf * min(2**level, 8) for level in range(levels)]
        bias = not norm.startswith(("batch", "none")) if bias is None else bias
        self.model = Level(None, widths, norm, bias, dropout, outermost=True)
        fill(self, torch.rand(1, 3, 2**levels, 2**levels))
        self.train(not norm.startswith("batch") and not dropout)

    def forward(self, x):
        return self.model(x)


class Discriminator(nn.Module):
    """The authors' discriminator of patches, or with 0 layers of pixels, its weights random. (B, channels, H, W) → logits (B, 1, ·, ·)."""

    def __init__(self, layers=3, norm="affine", ndf=4, channels=3):
        super().__init__()
        torch.manual_seed(0)
        size, pad = (4, 1) if layers else (1, 0)
        widths = [ndf * min(2**n, 8) for n in range(layers + 1)] if layers else [ndf, 2 * ndf]
        made = []
        for n, (before, k) in enumerate(zip([channels, *widths], widths, strict=False)):
            made += [nn.Conv2d(before, k, size, 2 if n < layers else 1, pad, bias=n == 0), *([NORMS[norm](k)] if n else [])]
            made += [nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*made, nn.Conv2d(widths[-1], 1, size, 1, pad))
        fill(self, torch.rand(1, channels, 4 * 2**layers, 8 * 2**layers))
        self.train(not norm.startswith("batch"))

    def forward(self, x):
        return self.model(x)


def hand_over(network: nn.Module, ours) -> None:
    """Gives the weights to one of our networks, layer by layer."""
    modules = [module for module in network.modules() if getattr(module, "weight", None) is not None]
    layers = [layer for layer in ours.layers if layer.weights]
    for module, layer in zip(modules, layers, strict=True):
        of = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        if of["weight"].ndim == 4:
            layer.kernel.assign(of["weight"].transpose(2, 3, 1, 0))
            if layer.use_bias:
                layer.bias.assign(of["bias"])
        else:
            layer.gamma.assign(of["weight"])
            layer.beta.assign(of["bias"])
            if hasattr(layer, "moving_mean"):
                layer.moving_mean.assign(of["running_mean"])
                layer.moving_variance.assign(of["running_var"])


def save(file: Path, content, **how) -> Path:
    torch.save(content, file, **how)
    return file


def translate(network: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """(B, H, W, 3) in [-1, 1] → the same."""
    with torch.no_grad():
        return network(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
