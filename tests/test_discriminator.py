import keras
import numpy as np
import pytest
import tensorflow as tf

from discriminator import Discriminator


def test_the_receptive_field_is_70_pixels():
    """By gradient; with batch norm in inference, as instance norm lets every pixel reach every output."""
    discriminator = Discriminator(ndf=2, norm="batch")
    pictures = tf.random.uniform((1, 256, 256, 3), -1, 1)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        logit = discriminator(pictures)[0, 15, 15, 0]
    seen = np.abs(tape.gradient(logit, pictures)[0]).sum(-1) > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 70


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
