import keras
import numpy as np
import pytest
import tensorflow as tf

import convert_torch
import export_graph
from generator import Generator, build_generator
from ops import InstanceNormalization
from system.cli import InputError
from training.config import Config


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
    assert Generator(64, 9).count_params() == kernels + norms + bias


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


@pytest.mark.parametrize(("upsample", "kind"), [("transpose", "Upconvolution"), ("resize", "ResizeConvolution")])
def test_each_convolution_is_the_papers(upsample, kind):
    convolutions = [x for x in Generator(2, 1, "instance", upsample).layers if hasattr(x, "kernel")]
    found = [
        (type(x).__name__, x.filters, x.kernel_size[0], x.strides[0], getattr(x, "pad", None), getattr(x, "reflect", None))
        for x in convolutions
    ]
    ups = [(kind, filters, 3, 2 if upsample == "transpose" else 1, None, None) for filters in (4, 2)]
    down = [("Convolution", 2, 7, 1, 3, True), ("Convolution", 4, 3, 2, 1, False), ("Convolution", 8, 3, 2, 1, False)]
    assert found == [*down, *[("Convolution", 8, 3, 1, 1, True)] * 2, *ups, ("FewFilters", 3, 7, 1, 3, True)]
    for x in convolutions:
        start = x.kernel_initializer
        assert (type(start).__name__, start.mean, start.stddev) == ("RandomNormal", 0.0, 0.02)


def test_the_numbers_that_travel_in_models_are_the_networks_own():
    generator = Generator(2, 1)
    assert (generator.multiple, generator.smallest) == (4, 8)
    assert generator(tf.zeros((1, 8, 12, 3))).shape == (1, 8, 12, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        generator(tf.zeros((1, 4, 12, 3)))
    assert generator(tf.zeros((1, 10, 12, 3))).shape != (1, 10, 12, 3)


@pytest.mark.parametrize("command", [export_graph, convert_torch])
def test_the_commands_take_sizes_that_the_network_takes(command):
    needed = {export_graph: ["--checkpoint_dir", "run"], convert_torch: ["--weights", "G.pth", "--output", "m.pb"]}[command]
    for size in (Generator.smallest, Generator.smallest + Generator.multiple):
        assert command.parse([*needed, "--image_size", str(size)]).image_size == size
    for size in (Generator.smallest - Generator.multiple, Generator.smallest + Generator.multiple // 2):
        with pytest.raises(InputError, match="--image_size"):
            command.parse([*needed, "--image_size", str(size)])


def test_a_runs_settings_make_its_generator():
    config = Config(ngf=3, n_res_blocks=2, norm="batch", upsample="transpose", precision="bfloat16")
    generator = build_generator(config, "G_ema")
    kinds = [type(x).__name__ for x in generator.layers]
    assert generator.name == "G_ema" and generator.layers[1].filters == 3 and generator.layers[1].compute_dtype == "bfloat16"
    assert (kinds.count("Add"), kinds.count("BatchNormalization"), kinds.count("Upconvolution")) == (2, 9, 2)
    assert build_generator(Config(precision="float32", norm="instance"), "G").layers[1].compute_dtype == "float32"
