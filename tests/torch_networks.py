"""Generators in PyTorch, written as the paper's authors and others write them."""

from pathlib import Path

import numpy as np
import pytest

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
