import keras
import numpy as np
import pytest
import tensorflow as tf

from generator import Generator
from ops import InstanceNormalization


def shapes(generator: Generator, height: int, width: int) -> list[tuple]:
    """The shapes after each block: where a ReLU, a residual sum or the tanh stands last."""
    ends = (keras.layers.ReLU, keras.layers.Add, keras.layers.Activation)
    blocks = [x for x in generator.layers if isinstance(x, ends)]
    outputs = keras.Model(generator.input, [x.output for x in blocks])(tf.zeros((1, height, width, 3)))
    return [tuple(x.shape[1:]) for x in outputs]


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_the_shapes_are_those_of_the_architecture_line(upsample):
    found = shapes(Generator(ngf=4, n_res_blocks=2, upsample=upsample), 16, 24)
    residual = [(4, 6, 16)] * 4  # each block: a ReLU inside, and the sum
    assert found == [(16, 24, 4), (8, 12, 8), (4, 6, 16), *residual, (8, 12, 8), (16, 24, 4), (16, 24, 3)]


def test_the_papers_generator_has_its_number_of_weights():
    norms, bias = 2 * (64 + 128 + 256 + 18 * 256 + 128 + 64), 3
    kernels = 49 * 3 * 64 + 9 * (64 * 128 + 128 * 256 + 18 * 256 * 256 + 256 * 128 + 128 * 64) + 49 * 64 * 3
    assert Generator().count_params() == kernels + norms + bias


@pytest.mark.parametrize(("norm", "kind"), [("instance", InstanceNormalization), ("batch", keras.layers.BatchNormalization)])
def test_the_norm_is_in_every_block_and_replaces_the_bias(norm, kind):
    generator = Generator(ngf=2, n_res_blocks=3, norm=norm)
    norms = [x for x in generator.layers if isinstance(x, InstanceNormalization | keras.layers.BatchNormalization)]
    assert len(norms) == 3 + 2 * 3 + 2
    assert all(isinstance(x, kind) for x in norms)
    convolutions = [x for x in generator.layers if isinstance(x, keras.layers.Conv2D | keras.layers.Conv2DTranspose)]
    assert [x.use_bias for x in convolutions] == [False] * 11 + [True]


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
@pytest.mark.parametrize("size", [(8, 8), (8, 100), (36, 20)])
def test_any_multiple_of_4_from_8_on_keeps_its_size(size, upsample):
    pictures = tf.random.uniform((2, *size, 3), -1, 1)
    translated = Generator(ngf=2, n_res_blocks=1, upsample=upsample)(pictures)
    assert translated.shape == pictures.shape
    assert np.abs(translated).max() <= 1


def test_two_generators_start_differently_unless_seeded():
    def kernel() -> np.ndarray:
        return Generator(ngf=2, n_res_blocks=1).weights[0].numpy()

    assert not np.array_equal(kernel(), kernel())
    keras.utils.set_random_seed(3)
    first = kernel()
    keras.utils.set_random_seed(3)
    assert np.array_equal(first, kernel())
