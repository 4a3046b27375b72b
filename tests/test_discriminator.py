import keras
import numpy as np
import pytest
import tensorflow as tf

from discriminator import Discriminator, PixelDiscriminator, build_discriminator
from training.config import Config


def seen_by_the_middle(discriminator: keras.Model, side: int) -> list[int]:
    """The rows that the logit in the middle depends on, by gradient: how many, and from the first to the last; columns likewise."""
    pictures = tf.random.uniform((1, side, side, 3), -1, 1)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        logits = discriminator(pictures)
        logit = logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]
    seen = np.abs(tape.gradient(logit, pictures)[0]).sum(-1) > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return [len(rows), np.ptp(rows) + 1, len(columns), np.ptp(columns) + 1]


@pytest.mark.parametrize(("n_layers", "side"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_patch_has_so_many_pixels(n_layers, side):
    """With batch norm in inference, as instance norm lets every pixel reach every output."""
    discriminator = Discriminator(ndf=2, norm="batch", n_layers=n_layers)
    assert seen_by_the_middle(discriminator, 2 * side) == [side] * 4


def test_a_pixel_is_judged_by_itself():
    assert seen_by_the_middle(PixelDiscriminator(ndf=2, norm="batch"), 8) == [1] * 4


@pytest.mark.parametrize("n_layers", [1, 2, 4, 5])
def test_each_layer_more_halves_the_logits(n_layers):
    discriminator, smallest = Discriminator(1, n_layers=n_layers), 3 * 2**n_layers
    assert discriminator(tf.zeros((2, smallest, 2 * smallest, 3))).shape == (2, 1, 4, 1)
    filters = [min(2**n, 8) for n in range(n_layers + 1)]
    assert [x.filters for x in discriminator.layers if hasattr(x, "kernel")] == [*filters, 1]
    assert [x.strides[0] for x in discriminator.layers if hasattr(x, "kernel")] == [2] * n_layers + [1, 1]


def test_the_layers_of_a_discriminator_of_pixels():
    discriminator = PixelDiscriminator(ndf=2, channels=6)
    kinds = ["Convolution", "LeakyReLU", "Convolution", "InstanceNormalization", "LeakyReLU", "Convolution", "Activation"]
    assert [type(x).__name__ for x in discriminator.layers[1:]] == kinds
    assert [(x.filters, x.kernel_size, x.strides, x.use_bias) for x in discriminator.layers if hasattr(x, "kernel")] == [
        (2, (1, 1), (1, 1), True),
        (4, (1, 1), (1, 1), False),
        (1, (1, 1), (1, 1), True),
    ]
    assert discriminator(tf.zeros((2, 7, 9, 6))).shape == (2, 7, 9, 1)
    assert discriminator.layers[-1].activation is keras.activations.linear  # logits


@pytest.mark.parametrize("kind", [Discriminator, PixelDiscriminator])
def test_a_norm_without_scale_and_offset_or_none(kind):
    assert {w.name for w in kind(1, "batch", affine=False).trainable_weights} == {"kernel", "bias"}
    assert {w.name for w in kind(1, "none").weights} == {"kernel", "bias"}


def test_a_runs_settings_make_its_discriminator():
    common = {"ndf": 3, "norm": "batch", "precision": "bfloat16", "affine": False}
    patch = build_discriminator(Config(**common, n_layers_D=2, batch_size=2), "D_X")
    assert isinstance(patch, Discriminator) and (patch.name, patch.layers[1].filters, patch.layers[1].compute_dtype) == (
        "D_X",
        3,
        "bfloat16",
    )
    assert [type(x).__name__ for x in patch.layers if hasattr(x, "gamma")] == ["BatchNormalization"] * 2
    pixel = build_discriminator(Config(**common, discriminator="pixel"), "D_Y", channels=6)
    assert isinstance(pixel, PixelDiscriminator) and (pixel.name, pixel.layers[1].filters, pixel.layers[1].compute_dtype) == (
        "D_Y",
        3,
        "bfloat16",
    )
    assert pixel.input.shape == (None, None, None, 6)
    assert [type(x).__name__ for x in pixel.layers if hasattr(x, "gamma")] == ["InstanceNormalization"]
    assert not any(w.name in ("gamma", "beta") for made in (patch, pixel) for w in made.trainable_weights)


@pytest.mark.parametrize(("size", "logits"), [((256, 256), (30, 30)), ((128, 64), (14, 6)), ((32, 32), (2, 2))])
def test_one_logit_a_patch(size, logits):
    assert Discriminator(ndf=2)(tf.zeros((3, *size, 3))).shape == (3, *logits, 1)


def test_the_papers_discriminator_has_its_number_of_weights_and_a_bias_where_there_is_no_norm():
    kernels, norms, biases = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512), 2 * (128 + 256 + 512), 64 + 1
    discriminator = Discriminator()
    assert discriminator.count_params() == kernels + norms + biases
    assert [x.use_bias for x in discriminator.layers if isinstance(x, keras.layers.Conv2D)] == [True, False, False, False, True]


def test_each_layer_is_the_papers():
    discriminator = Discriminator(ndf=2)
    found = [
        (type(x).__name__, x.filters, x.kernel_size, x.strides, x.pad, x.reflect, x.use_bias, x.kernel_initializer.stddev)
        for x in discriminator.layers
        if hasattr(x, "kernel")
    ]
    blocks = [(2, (2, 2), True), (4, (2, 2), False), (8, (2, 2), False), (16, (1, 1), False)]
    expected = [("Convolution", filters, (4, 4), strides, 1, False, bias, 0.02) for filters, strides, bias in blocks]
    assert found == [*expected, ("FewFilters", 1, (4, 4), (1, 1), 1, False, True, 0.02)]
    leaky = [x.negative_slope for x in discriminator.layers if isinstance(x, keras.layers.LeakyReLU)]
    assert leaky == [0.2] * 4
    norms = [type(x).__name__ for x in discriminator.layers if hasattr(x, "gamma")]
    assert norms == ["InstanceNormalization"] * 3
    assert [type(x).__name__ for x in Discriminator(2, "batch").layers if hasattr(x, "gamma")] == ["BatchNormalization"] * 3
    assert discriminator.layers[-1].activation is keras.activations.linear  # logits
