"""The peer must do the same work, or its time means nothing; and what is counted must be what is done."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

torch = pytest.importorskip("torch", reason="bash scripts/setup.sh bench installs it")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import flops  # noqa: E402
import peer  # noqa: E402
import turns  # noqa: E402
from config import Config  # noqa: E402
from discriminator import Discriminator  # noqa: E402
from generator import Generator  # noqa: E402
from model import CycleGAN  # noqa: E402

SIZE, NGF, NDF, BLOCKS = 32, 4, 4, 1


def to_torch(pictures):
    return torch.from_numpy(np.asarray(pictures).transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def both():
    """Our model and the peer's with equal weights, and a batch of two pictures of each domain."""
    keras.utils.set_random_seed(1)
    as_in_the_paper = {"upsample": "transpose", "lambda_identity": 0, "ema": 0}
    ours = CycleGAN(Config(image_size=SIZE, ngf=NGF, ndf=NDF, n_res_blocks=BLOCKS, batch_size=2, **as_in_the_paper))
    theirs = peer.CycleGAN(NGF, NDF, BLOCKS)
    for name in ("G", "F", "D_X", "D_Y"):
        peer.take_weights(getattr(theirs, name), getattr(ours, name))
    draw = np.random.default_rng(0)
    x, y = draw.uniform(-1, 1, (2, 2, SIZE, SIZE, 3)).astype(np.float32)
    return ours, theirs, x, y


def test_the_peers_networks_are_ours(both):
    ours, theirs, x, _ = both
    for name in ("G", "D_X"):
        expected = np.asarray(getattr(ours, name)(x))
        with torch.no_grad():
            found = getattr(theirs, name)(to_torch(x)).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.long
def test_a_step_of_the_peer_gives_our_losses_and_our_weights(both):
    ours, theirs, x, y = both
    found = theirs.train_step(to_torch(x), to_torch(y))
    losses = ours.train_step(tf.constant(x), tf.constant(y))
    assert found == pytest.approx([float(losses[f"loss/{name}"]) for name in ("G", "F", "cycle", "D_X", "D_Y")], rel=1e-5)
    for name in ("G", "F", "D_X", "D_Y"):
        for parameter, weight in zip(getattr(theirs, name).parameters(), getattr(ours, name).trainable_variables, strict=True):
            found = parameter.detach().numpy()
            found = found.transpose(2, 3, 1, 0) if found.ndim == 4 else found
            # Adam's first step is one learning rate up or down, whichever way a gradient points that is hardly more than rounding.
            off = np.abs(found - weight.numpy()) > 1e-5
            assert off.mean() < 0.02, weight.path


@pytest.mark.parametrize(
    ("network", "counted"), [(Generator(4, 2), flops.generator(64, 4, 2)), (Discriminator(4), flops.discriminator(64, 4))]
)
def test_operations_are_counted_as_the_networks_do_them(network, counted):
    found, layers = [], [layer for layer in network.layers if hasattr(layer, "kernel")]
    outputs = keras.Model(network.input, [layer.output for layer in layers])(tf.zeros((1, 64, 64, 3)))
    for layer, y in zip(layers, outputs, strict=True):
        height, width, a, b = layer.kernel.shape
        pixels = y.shape[1] * y.shape[2] / (4 if "up" in layer.name else 1)  # a transposed convolution: the pixels that it reads
        found.append(2.0 * pixels * height * width * a * b)
    assert found == counted


def test_what_is_measured_in_turn_is_measured_alike():
    measured = turns.Measured([1.0, 2.0, 4.0], 0), turns.Measured([2.0, 2.0, 2.0], 0)
    assert measured[0].ratio(measured[1]) == (1.0, 0.5, 2.0) and measured[0].median == 2.0


def test_one_command_prints_the_table():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--turns", "1", "--only"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"tensorflow \d", done.stdout) and done.stdout.rstrip().splitlines()[-1].startswith("| ---")
