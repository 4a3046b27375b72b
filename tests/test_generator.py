import keras
import numpy as np
import pytest
import tensorflow as tf
from untrained import shuffled

import convert_torch
import export_graph
from generator import Generator, UNet, build_generator, seed_dropout
from networks.layers import Dropout, InstanceNormalization
from system.cli import InputError
from training.config import Config


def shapes(generator: keras.Model, height: int, width: int, *ends: type) -> list[tuple]:
    """The shapes after the layers of these kinds."""
    found = [x for x in generator.layers if isinstance(x, ends)]
    outputs = keras.Model(generator.input, [x.output for x in found])(tf.zeros((1, height, width, 3)))
    return [tuple(x.shape[1:]) for x in outputs]


def kinds(generator: keras.Model) -> list[str]:
    return [type(x).__name__ for x in generator.layers]


@pytest.fixture
def zeros(monkeypatch):
    """Weights are not drawn, which with many takes as long as everything else."""
    monkeypatch.setattr(keras.initializers, "RandomNormal", lambda stddev: keras.initializers.Zeros())


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_the_shapes_are_those_of_the_architecture_line(upsample):
    ends = (keras.layers.ReLU, keras.layers.Add, keras.layers.Activation)  # which stand last in a block
    found = shapes(Generator(ngf=4, n_res_blocks=2, upsample=upsample), 16, 24, *ends)
    residual = [(4, 6, 16)] * 4  # each block: a ReLU inside, and the sum
    assert found == [(16, 24, 4), (8, 12, 8), (4, 6, 16), *residual, (8, 12, 8), (16, 24, 4), (16, 24, 3)]


def test_the_papers_generator_has_its_number_of_weights(zeros):
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
    config = Config(ngf=3, n_res_blocks=2, norm="batch", batch_size=2, upsample="transpose", precision="bfloat16")
    generator = build_generator(config, "G_ema")
    found = kinds(generator)
    assert generator.name == "G_ema" and generator.layers[1].filters == 3 and generator.layers[1].compute_dtype == "bfloat16"
    assert [found.count(kind) for kind in ("Add", "BatchNormalization", "Upconvolution", "Dropout")] == [2, 9, 2, 0]
    plain = Config(ngf=1, n_res_blocks=1, precision="float32", norm="batch", affine=False, dropout=True)
    generator = build_generator(plain, "G")
    found = kinds(generator)
    assert generator.layers[1].compute_dtype == "float32"
    assert [found.count(kind) for kind in ("InstanceNormalization", "ResizeConvolution", "Dropout")] == [7, 2, 1]
    assert {w.name for w in generator.trainable_weights} == {"kernel", "bias"}


def test_a_runs_settings_make_its_unet():
    settings = {"generator": "unet", "image_size": 96, "ngf": 1, "batch_size": 2, "dropout": True, "precision": "float32"}
    generator = build_generator(Config(**settings, norm="batch", affine=False), "F")
    found = kinds(generator)
    assert generator.name == "F" and generator.multiple == 32 and {w.name for w in generator.trainable_weights} == {"kernel", "bias"}
    assert [found.count(kind) for kind in ("BatchNormalization", "Upconvolution", "Dropout", "Concatenate")] == [7, 5, 3, 4]
    generator = build_generator(Config(**settings | {"dropout": False}, norm="none", unet_levels=2, upsample="resize"), "F")
    found = kinds(generator)
    assert generator.multiple == 4 and generator.layers[1].filters == 1
    assert [found.count(kind) for kind in ("BatchNormalization", "ResizeConvolution", "Dropout", "Concatenate")] == [0, 2, 0, 1]


# --- U-Net


def test_a_unets_shapes_are_those_of_its_levels():
    ends = (keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.Concatenate)
    found = shapes(UNet(2, 6), 64, 128, *ends)
    down = [(32, 64, 2), (16, 32, 4), (8, 16, 8), (4, 8, 16), (2, 4, 16), (1, 2, 16)]
    up = [(2, 4, 16), (2, 4, 32), (4, 8, 16), (4, 8, 32), (8, 16, 8), (8, 16, 16), (16, 32, 4), (16, 32, 8), (32, 64, 2), (32, 64, 4)]
    assert found == [*down, *up, (64, 128, 3)]


@pytest.mark.parametrize(("levels", "weights"), [(7, 41_828_995), (8, 54_413_955)])
def test_the_papers_unet_has_its_number_of_weights(zeros, levels, weights):
    assert sum(weight.numpy().size for weight in UNet(64, levels).trainable_weights) == weights


@pytest.mark.parametrize(
    ("norm", "kind", "biases"),
    [
        ("batch", "BatchNormalization", [5]),
        ("picture", "InstanceNormalization", [5]),
        ("instance", "InstanceNormalization", [0, 2, 5]),  # where nothing normalises
        ("none", None, [5]),
    ],
)
def test_a_unet_has_a_norm_everywhere_but_at_its_ends_and_innermost(norm, kind, biases):
    generator = UNet(1, 3, norm)
    leaky, convolution = ["LeakyReLU", "Convolution"], ["ReLU", "Upconvolution"]
    norms = [kind] if kind else []
    down = ["InputLayer", "Convolution", *leaky, *norms, *leaky]
    up = [*convolution, *norms, "Concatenate"] * 2 + [*convolution, "Activation"]
    assert kinds(generator) == [*down, *up]
    convolutions = [x for x in generator.layers if hasattr(x, "kernel")]
    assert [n for n, x in enumerate(convolutions) if x.use_bias] == biases


@pytest.mark.parametrize(("levels", "size"), [(2, (4, 8)), (3, (8, 24)), (3, (40, 16))])
def test_a_unet_keeps_sizes_that_its_levels_halve(levels, size):
    generator = UNet(1, levels, "instance")
    assert generator.multiple == generator.smallest == 2**levels
    pictures = tf.random.uniform((2, *size, 3), -1, 1)
    assert generator(pictures).shape == pictures.shape
    with pytest.raises(tf.errors.InvalidArgumentError):
        generator(pictures[:, :-2])


@pytest.mark.parametrize("make", [lambda norm: Generator(2, 1, norm), lambda norm: UNet(2, 3, norm, "resize")])
def test_batch_norm_of_a_batch_of_one_is_that_of_the_picture(make):
    """So that what was trained is what translates."""
    batch, picture = shuffled(make("batch"), 0), make("picture")
    for theirs, ours in zip(batch.trainable_weights, picture.weights, strict=True):
        ours.assign(theirs)
    x = tf.random.stateless_uniform((1, 16, 16, 3), (0, 1), -1, 1)
    for training in (True, False):
        np.testing.assert_allclose(picture(x, training=training), batch(x, training=True), atol=2e-6)
    assert np.abs(batch(x, training=False) - picture(x)).max() > 0.1


# --- dropout


@pytest.mark.parametrize("levels", [8, 3])
def test_a_unet_drops_after_its_three_innermost_steps_up(levels):
    sides = [side for _, side, _ in shapes(UNet(1, levels, "instance", dropout=True), 2**levels, 2**levels, Dropout)]
    assert sides == [2, 4, 8][: levels - 1]


def test_a_resnet_drops_in_each_block():
    found = kinds(Generator(1, 2, dropout=True))
    places = [n for n, kind in enumerate(found) if kind == "Dropout"]
    assert len(places) == 2 and all(found[n - 2 : n + 2] == ["InstanceNormalization", "ReLU", "Dropout", "Convolution"] for n in places)


@pytest.mark.parametrize("make", [lambda: Generator(1, 1, dropout=True), lambda: UNet(4, 2, "instance", dropout=True)])
def test_a_generator_drops_in_training_alone(make):
    generator, x = make(), tf.random.stateless_uniform((1, 8, 8, 3), (0, 1), -1, 1)
    for weight in generator.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, (0, 0), stddev=0.5))
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout([generator], 0, step)
    plain = generator(x, training=False)
    np.testing.assert_array_equal(plain, generator(x))
    first = generator(x, training=True)
    np.testing.assert_array_equal(first, generator(x, training=True))
    step.assign(1)
    second = generator(x, training=True)
    assert all(np.abs(a - b).mean() > 0.01 for a, b in ((plain, first), (plain, second), (first, second)))


def test_what_is_dropped_depends_on_the_seed_the_network_and_the_layer():
    generators, step, x = [UNet(1, 3, dropout=True) for _ in range(2)], tf.Variable(5, dtype=tf.int64), tf.ones((1, 8, 8, 9))
    layers = [layer for generator in generators for layer in generator.layers if isinstance(layer, Dropout)]
    seen = []
    for seed in (0, 1, 0):
        seed_dropout(generators, seed, step)
        seen.append([layer(x, training=True).numpy() for layer in layers])
    assert len(layers) == 4
    np.testing.assert_array_equal(seen[0], seen[2])
    assert len({kept.tobytes() for kept in (*seen[0], *seen[1])}) == 8
