"""16 bit arithmetic, with and without a loss scale, and XLA: what differs from the float32 step, and what must not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from discriminator import Discriminator, PixelDiscriminator
from formats import saved_model
from generator import Generator, UNet
from model import CycleGAN
from system.devices import number_type
from training.config import Config

# Transposed convolutions, as with `resize` the gradient of one gamma of these networks nearly cancels, and roundings are all of it.
TINY = {"image_size": 32, "ngf": 2, "ndf": 2, "n_res_blocks": 0, "upsample": "transpose", "pool_size": 1, "ema": 0}
TINY["precision"] = "float32"


def model(**settings) -> CycleGAN:
    keras.utils.set_random_seed(0)
    return CycleGAN(Config(**{**TINY, **settings}), decay_start=1000, total_steps=2000)


def pictures(seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    x, y = np.random.default_rng(seed).uniform(-1, 1, (2, 1, 32, 32, 3))
    return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


def slots(model: CycleGAN) -> list[np.ndarray]:
    """Adam's first moments of all networks: unlike its steps, they tell how large the gradients were."""
    optimizers = (model.generator_optimizer, model.discriminator_optimizer)
    return [slot.numpy() for optimizer in optimizers for slot in getattr(optimizer, "inner_optimizer", optimizer)._momentums]


def losses_of(step: dict[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in step.items() if name.startswith("loss/")}


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, float], list[np.ndarray]]:
    """The losses and the moments of the first step in float32."""
    plain = model()
    return losses_of(plain._train_step(*pictures(0))), slots(plain)  # not traced, which would take longer than the step


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_number_type_holds_in_its_block_only(precision):
    before = keras.config.dtype_policy()
    with pytest.raises(KeyError), number_type(precision):
        assert keras.config.dtype_policy().compute_dtype == precision
        raise KeyError
    assert keras.config.dtype_policy() == before
    with number_type("bfloat16"), number_type(precision):
        pass
    assert keras.config.dtype_policy() == before


def test_float32_leaves_the_policy_as_it_is(float64):
    with number_type("float32"):
        assert keras.config.dtype_policy().name == "float64"
    assert keras.config.dtype_policy().name == "float64"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", [Generator, Discriminator])
def test_16_bits_are_for_the_arithmetic_only(precision, kind):
    with number_type(precision):
        network = kind(2, **({"n_res_blocks": 1} if kind is Generator else {}))
    assert {w.dtype for w in network.weights} == {"float32"}
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D | keras.layers.Conv2DTranspose)]
    assert {x.compute_dtype for x in convolutions} == {precision} == {x.output.dtype for x in convolutions}
    answer = network(tf.zeros((1, 32, 32, 3)))
    assert answer.dtype == "float32"
    with number_type(precision):  # as anything below that is computed in
        assert network(tf.zeros((1, 32, 32, 3))).dtype == "float32"


def test_a_step_in_bfloat16_is_the_float32_step_to_rounding(plain):
    """Each loss is a mean over a picture, in which the roundings of single pixels, 2⁻⁸, largely cancel."""
    lean = model(precision="bfloat16")
    assert {network.layers[1].compute_dtype for network in (lean.G, lean.F, lean.D_X, lean.D_Y)} == {"bfloat16"}
    before = lean.G.get_weights()
    assert losses_of(lean._train_step(*pictures(0))) == pytest.approx(plain[0], rel=2**-7)
    assert all(np.isfinite(list(losses_of(lean._train_step(*pictures(1))).values())))
    assert lean.non_finite() is None
    assert all(not np.array_equal(a, b) for a, b in zip(before, lean.G.get_weights(), strict=True))


def padded_by_themselves(function) -> set[str]:
    """What of a traced function, and of those that it calls, are gradients of 16-bit convolutions that pad, or transposed ones.

    oneDNN's kernels do not take these, and what steps in for them on a CPU takes thirty times as long.
    """
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    backwards = [node for node in nodes if node.op in ("Conv2DBackpropInput", "Conv2DBackpropFilter")]
    sixteen_bits = [node for node in backwards if node.attr["T"].type in (tf.bfloat16.as_datatype_enum, tf.float16.as_datatype_enum)]
    assert sixteen_bits  # or there is nothing to be found
    return {node.name for node in sixteen_bits if node.attr["padding"].s == b"EXPLICIT"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Generator(2, 1, upsample="resize"),
        lambda: Generator(2, 0, upsample="transpose"),
        lambda: UNet(2, 3),
        lambda: UNet(2, 3, upsample="resize"),
        lambda: Discriminator(2),
        lambda: PixelDiscriminator(2),
    ],
)
def test_no_convolution_of_a_16_bit_step_lacks_a_native_kernel(make):
    with number_type("bfloat16"):
        network = make()

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = network(x, training=True)
        return tape.gradient(y, [x, *network.trainable_variables])

    assert padded_by_themselves(gradients.get_concrete_function(pictures(0)[0])) == set()


def test_no_convolution_of_a_16_bit_exported_model_lacks_a_native_kernel():
    with number_type("bfloat16"):
        network = Generator(2, 1, upsample="transpose")
    functions = saved_model.Functions(network, {"image_size": 32}).signatures()
    for name in ("serving_default", "translate_part"):
        assert padded_by_themselves(functions[name].get_concrete_function()) == set()


@pytest.mark.long
def test_float16_scales_its_losses_and_skips_steps_that_overflow(plain):
    half = model(precision="float16")
    scale, weights = half.generator_optimizer.dynamic_scale, half.G.trainable_variables + half.F.trainable_variables

    for optimizer in (half.generator_optimizer, half.discriminator_optimizer):
        optimizer.dynamic_scale.assign(2.0**8)  # a step that fits
    assert losses_of(half.train_step(*pictures(0))) == pytest.approx(plain[0], rel=2**-9)
    for ours, right in zip(slots(half), plain[1], strict=True):
        # Not closer: a rounding that turns a ReLU, or the sign in an absolute value, changes the gradient by all of that pixel's share.
        assert np.abs(ours - right).max() < 0.25 * np.abs(right).max()

    scale.assign(2.0**20)
    before, of_D = [w.numpy() for w in weights], half.D_X.get_weights()
    half.train_step(*pictures(1))
    assert scale == 2.0**19
    assert all(np.array_equal(a, b) for a, b in zip(before, weights, strict=True))
    assert all(not np.array_equal(a, b) for a, b in zip(of_D, half.D_X.get_weights(), strict=True))  # it has a scale of its own

    for _ in range(11):  # down to 2⁸, at most
        half.train_step(*pictures(2))
    assert scale >= 2.0**8
    assert all(not np.array_equal(a, b) for a, b in zip(before, weights, strict=True))
    assert half.non_finite() is None


def test_a_step_that_a_loss_scale_skips_counts_for_the_rate_all_the_same():
    keras.utils.set_random_seed(0)
    half = CycleGAN(Config(**TINY | {"precision": "float16", "lambda_identity": 0}), decay_start=0, total_steps=1)
    for optimizer, scale in ((half.generator_optimizer, 2.0**120), (half.discriminator_optimizer, 2.0**8)):
        optimizer.dynamic_scale.assign(scale)  # the former's gradients overflow
    half._train_step(*pictures(0))
    counts = [optimizer.inner_optimizer.iterations for optimizer in (half.generator_optimizer, half.discriminator_optimizer)]
    assert [int(count) for count in counts] == [0, 1]

    half.generator_optimizer.dynamic_scale.assign(2.0**8)
    before = [*half.G.get_weights(), *half.D_X.get_weights()]
    assert float(half._train_step(*pictures(1))["learning_rate"]) == 0  # as the log says: nothing moves any more
    assert int(counts[0]) == 1
    for old, new in zip(before, [*half.G.get_weights(), *half.D_X.get_weights()], strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.long
def test_the_compiled_step_is_the_plain_step():
    """In float32: float64 has no fused kernel for instance normalisation."""
    settings = {"ema": 0.9, "ngf": 1, "ndf": 1, "lambda_identity": 0.0}
    compiled, plain = model(**settings, xla=True), model(**settings)
    for step in range(2):
        found = losses_of(compiled.train_step(*pictures(step)))
        assert found == pytest.approx(losses_of(plain._train_step(*pictures(step))), rel=1e-4)
    assert compiled.train_step.get_concrete_function(*pictures(0)).function_def.attr["_XlaMustCompile"].b
    for ours, right in ((compiled.pool_X, plain.pool_X), (compiled.pool_Y, plain.pool_Y)):
        assert ours.count == right.count == 1
        np.testing.assert_allclose(ours.pictures, right.pictures, atol=1e-4)
    for ours, right in zip(compiled.G_ema.weights, plain.G_ema.weights, strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-5)
