"""Our networks compute what the same ones written in PyTorch do, from random weights."""

import numpy as np
import pytest
import torch_networks
from torch_networks import hand_over, translate

from discriminator import Discriminator, PixelDiscriminator
from generator import UNet


def assert_same(network, ours, height: int, width: int, channels: int = 3, training: bool = False) -> None:
    hand_over(network, ours)
    x = np.random.default_rng(0).uniform(-1, 1, (1, height, width, channels)).astype(np.float32)
    expected = translate(network, x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(ours(x, training=training), expected, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize(("norm", "theirs", "levels"), [("batch", "batch", 5), ("none", "none", 6), ("instance", "affine", 8)])
def test_a_unet(norm, theirs, levels):
    assert_same(torch_networks.UNet(theirs, levels), UNet(4, levels, norm), 2**levels, 2 * 2**levels)


def test_batch_norm_of_a_batch_of_one_is_of_the_picture():
    """As in the authors' training, and in their test.py without --eval."""
    assert_same(torch_networks.UNet("batch", 4).train(), UNet(4, 4, "picture"), 16, 32)


@pytest.mark.parametrize(
    ("n_layers", "norm", "theirs", "channels"), [(1, "none", "none", 3), (2, "instance", "affine", 6), (5, "batch", "batch", 3)]
)
def test_a_discriminator_of_patches(n_layers, norm, theirs, channels):
    """Of two pictures one on the other, too."""
    network, ours = torch_networks.Discriminator(n_layers, theirs, channels=channels), Discriminator(4, norm, n_layers, channels=channels)
    assert_same(network, ours, 4 * 2**n_layers, 5 * 2**n_layers, channels)


@pytest.mark.parametrize(("norm", "theirs"), [("instance", "affine"), ("batch", "batch"), ("none", "none")])
def test_a_discriminator_of_pixels(norm, theirs):
    assert_same(torch_networks.Discriminator(0, theirs, channels=6), PixelDiscriminator(4, norm, channels=6), 8, 12, 6)
