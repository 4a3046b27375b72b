import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from discriminator import Discriminator
from generator import Generator
from model import ConstantThenLinear, CycleGAN, training_length
from training.config import Config

TINY = {"image_size": 32, "ngf": 2, "ndf": 2, "n_res_blocks": 1, "pool_size": 2, "lambda_identity": 0, "ema": 0}
TINY["precision"] = "float32"


@pytest.fixture(autouse=True)
def eager(float64):
    keras.utils.set_random_seed(0)
    tf.config.run_functions_eagerly(True)  # a trace takes longer than the few steps of a test
    yield
    tf.config.run_functions_eagerly(False)


def tiny(**settings) -> CycleGAN:
    return CycleGAN(Config(**{**TINY, **settings}), decay_start=1000, total_steps=2000)


def pictures(seed: int, batch: int = 1) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (batch, 32, 32, 3)))


def values(model: CycleGAN) -> dict[str, np.ndarray]:
    """All that a checkpoint should hold, by name."""
    owners = {name: getattr(model, name).weights for name in ("G", "F", "D_X", "D_Y", "G_ema", "F_ema") if hasattr(model, name)}
    others = ("generator_optimizer", "discriminator_optimizer", "pool_X", "pool_Y", "G_health", "F_health", "D_X_health", "D_Y_health")
    owners |= {name: getattr(model, name).variables for name in others}
    return {f"{owner}/{i}": v.numpy() for owner, variables in owners.items() for i, v in enumerate(variables)} | {
        "step": model.step.numpy()
    }


class PlainAdam:
    """Adam as in its paper (Kingma & Ba 2015, the efficient form at the end of section 2)."""

    def __init__(self, rate: float, beta1: float):
        self.rate, self.beta1, self.step, self.moments = rate, beta1, 0, {}

    def apply(self, gradients: list, variables: list) -> None:
        self.step += 1
        alpha = self.rate * np.sqrt(1 - 0.999**self.step) / (1 - self.beta1**self.step)
        for i, (g, v) in enumerate(zip(gradients, variables, strict=True)):
            m, s = self.moments.get(i, (0, 0))
            m, s = self.beta1 * m + (1 - self.beta1) * g, 0.999 * s + 0.001 * g**2
            self.moments[i] = m, s
            v.assign_sub(alpha * m / (tf.sqrt(s) + 1e-8))


def plain_step(nets: dict, adams: dict, config: Config, x: tf.Tensor, y: tf.Tensor) -> None:
    """The paper's step, network by network: each with its own loss, gradient and optimizer; no pool, least squares."""
    G, F, D_X, D_Y = nets.values()

    def distance(a, b):
        return tf.reduce_mean(tf.abs(a - b))

    def cycle():
        return config.lambda1 * distance(F(G(x)), x) + config.lambda2 * distance(G(F(y)), y)

    fake_x, fake_y = F(y), G(x)
    losses = {
        "G": lambda: (
            tf.reduce_mean((D_Y(G(x)) - config.real_label) ** 2) + cycle() + config.lambda_identity * config.lambda2 * distance(G(y), y)
        ),
        "F": lambda: (
            tf.reduce_mean((D_X(F(y)) - config.real_label) ** 2) + cycle() + config.lambda_identity * config.lambda1 * distance(F(x), x)
        ),
        "D_X": lambda: (tf.reduce_mean((D_X(x) - config.real_label) ** 2) + tf.reduce_mean(D_X(fake_x) ** 2)) / 2,
        "D_Y": lambda: (tf.reduce_mean((D_Y(y) - config.real_label) ** 2) + tf.reduce_mean(D_Y(fake_y) ** 2)) / 2,
    }
    for group in (("G", "F"), ("D_X", "D_Y")):  # gradients of a group before either moves
        gradients = {}
        for name in group:
            with tf.GradientTape() as tape:
                loss = losses[name]()
            gradients[name] = tape.gradient(loss, nets[name].trainable_variables)
        for name in group:
            adams[name].apply(gradients[name], nets[name].trainable_variables)


@pytest.mark.parametrize(("batch", "lambda_identity"), [(1, 0.0), (2, 0.5)])
def test_the_step_is_the_papers_step(batch, lambda_identity):
    model = tiny(pool_size=0, batch_size=batch, lambda1=7.0, lambda2=11.0, lambda_identity=lambda_identity, real_label=0.9)
    nets = {name: keras.models.clone_model(getattr(model, name)) for name in ("G", "F", "D_X", "D_Y")}
    for name, net in nets.items():
        net.set_weights(getattr(model, name).get_weights())
    adams = {name: PlainAdam(2e-4, 0.5) for name in nets}
    for step in range(2):
        x, y = pictures(2 * step, batch), pictures(2 * step + 1, batch)
        model.train_step(x, y)
        plain_step(nets, adams, model.config, x, y)
    for name, net in nets.items():
        for ours, plain in zip(getattr(model, name).get_weights(), net.get_weights(), strict=True):
            np.testing.assert_allclose(ours, plain, atol=1e-9)


def test_least_squares_losses():
    model = tiny(real_label=0.9)
    real, fake = tf.constant([[0.5, 1.0]], tf.float64), tf.constant([[0.2, -0.4]], tf.float64)
    assert float(model.generator_loss(fake)) == pytest.approx((0.7**2 + 1.3**2) / 2)
    assert float(model.discriminator_loss(real, fake)) == pytest.approx(((0.4**2 + 0.1**2) / 2 + (0.2**2 + 0.4**2) / 2) / 2)


def test_cross_entropy_losses_are_on_logits_and_do_not_saturate():
    model = tiny(use_lsgan=False)
    real, fake = tf.constant([[3.0]], tf.float64), tf.constant([[-50.0]], tf.float64)
    assert float(model.generator_loss(fake)) == pytest.approx(50.0)  # -log sigmoid(-50); log(1 - sigmoid) would be flat here
    assert float(model.discriminator_loss(real, fake)) == pytest.approx(np.log1p(np.exp(-3.0)) / 2)


def test_cycle_and_identity_losses_weigh_each_direction():
    model = tiny(lambda1=2.0, lambda2=3.0, lambda_identity=0.5)
    x, y = tf.zeros((1, 4, 4, 3), tf.float64), tf.ones((1, 4, 4, 3), tf.float64)
    assert float(model.cycle_consistency_loss(x, x + 0.5, y, y - 0.25)) == pytest.approx(2 * 0.5 + 3 * 0.25)
    model.G, model.F = lambda v, training: v - 0.1, lambda v, training: v + 0.7
    assert float(model.identity_loss(x, y)) == pytest.approx(0.5 * (3 * 0.1 + 2 * 0.7))


@pytest.mark.parametrize(("lambda_identity", "generator_passes"), [(0.0, 4), (0.5, 6)])
def test_a_step_makes_four_generator_and_six_discriminator_passes(monkeypatch, lambda_identity, generator_passes):
    model, passes = tiny(lambda_identity=lambda_identity), {Generator: 0, Discriminator: 0}
    for kind in passes:

        def count(self, *args, kind=kind, plain=kind.__call__, **kwargs):
            passes[kind] += 1
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__call__", count)
    model.train_step(pictures(0), pictures(1))
    assert passes == {Generator: generator_passes, Discriminator: 6}


def test_the_step_returns_the_chapters_scalars():
    model, identity = tiny(), tiny(lambda_identity=0.5)
    losses = model.train_step(pictures(0), pictures(1))
    chapters = {"loss/G", "loss/F", "loss/D_X", "loss/D_Y", "loss/cycle", "learning_rate"}
    assert {name for name in losses if not name.startswith("health/")} == chapters
    assert all(v.shape == () for v in losses.values())
    assert "loss/identity" in identity.train_step(pictures(0), pictures(1))


def test_the_step_reports_how_the_networks_fare():
    model = tiny()
    x, y = pictures(0), pictures(1)
    fake_y = model.G(x)
    losses = model.train_step(x, y)
    assert {name for name in losses if name.startswith("health/")} == {
        *(f"health/{G}_{kind}" for G in "GF" for kind in ("brightness", "variety", "change")), "health/D_X_loss", "health/D_Y_loss"
    }  # fmt: skip
    assert float(losses["health/G_change"]) == pytest.approx(float(tf.reduce_mean(tf.abs(fake_y - x))) / 2)
    assert float(losses["health/D_X_loss"]) == pytest.approx(float(losses["loss/D_X"]) / 0.25)  # an answer of 0.5 to all: (0.25 + 0.25) / 2


def test_cross_entropy_counts_from_ln_2():
    model = tiny(use_lsgan=False)
    losses = model.train_step(pictures(0), pictures(1))
    assert float(losses["health/D_Y_loss"]) == pytest.approx(float(losses["loss/D_Y"]) / np.log(2))


def test_the_first_loss_that_is_not_finite_is_named_with_its_step():
    model = tiny(lambda_identity=0.5)
    model.train_step(pictures(0), pictures(1))
    assert model.non_finite() is None
    model.config.lambda_identity = float("inf")
    for _ in range(2):
        model.train_step(pictures(0), pictures(1))
    assert model.non_finite() == ("loss/identity", 2)


@pytest.mark.parametrize("network", ["G", "F", "D_X", "D_Y"])
def test_weights_that_are_not_finite_are_noticed(network):
    model = tiny()
    weight = getattr(model, network).trainable_variables[-1]
    weight.assign(tf.fill(weight.shape, tf.constant(np.inf, weight.dtype)))
    assert model.non_finite() == ("the networks' weights", 0)


def test_the_discriminators_learn_from_the_pools():
    """A pool that gives back something else changes the discriminators, and only them."""
    keras.utils.set_random_seed(1)
    plain = tiny()
    keras.utils.set_random_seed(1)
    other = tiny()
    other.pool_X.query = lambda fakes, step: tf.ones_like(fakes)
    for model in (plain, other):
        model.train_step(pictures(0), pictures(1))
    expected, found = values(plain), values(other)
    changed = {name.split("/")[0] for name, value in expected.items() if not np.array_equal(value, found[name])}
    assert changed == {"D_X", "discriminator_optimizer", "pool_X", "D_X_health"}


def test_the_pools_hold_what_the_generators_made():
    model = tiny()
    fake_y, fake_x = model.G(pictures(0)), model.F(pictures(1))
    model.train_step(pictures(0), pictures(1))
    np.testing.assert_allclose(model.pool_Y.pictures[0], fake_y[0], atol=1e-9)
    np.testing.assert_allclose(model.pool_X.pictures[0], fake_x[0], atol=1e-9)
    assert (model.pool_X.count, model.pool_Y.count) == (1, 1)


def test_the_moving_average_starts_with_the_weights_and_then_lags():
    model = tiny(ema=0.999)
    for mine, average in zip(model.G.weights, model.G_ema.weights, strict=True):
        assert np.array_equal(mine, average)
    average, decays = [w.numpy() for w in model.F_ema.weights], [0.1, 2 / 11, 3 / 12]
    for step, decay in enumerate(decays):
        model.train_step(pictures(step), pictures(step + 9))
        average = [decay * a + (1 - decay) * w.numpy() for a, w in zip(average, model.F.weights, strict=True)]
    for mine, expected in zip(model.F_ema.weights, average, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_batch_norm_trains_and_keeps_statistics():
    model = tiny(norm="batch", batch_size=2)
    before = [v.numpy() for v in model.G.non_trainable_variables]
    model.train_step(pictures(0, 2), pictures(1, 2))
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.G.non_trainable_variables, strict=True))


def test_sampling_looks_and_changes_nothing():
    model = tiny()
    before = values(model)
    sample = model.sample(pictures(0), pictures(1))
    np.testing.assert_allclose(sample["X/generated"], model.G(pictures(0)), atol=1e-9)
    np.testing.assert_allclose(sample["X/reconstruction"], model.F(model.G(pictures(0))), atol=1e-9)
    np.testing.assert_allclose(sample["Y/generated"], model.F(pictures(1)), atol=1e-9)
    np.testing.assert_allclose(sample["Y/reconstruction"], model.G(model.F(pictures(1))), atol=1e-9)
    np.testing.assert_allclose(sample["D_Y/fake"], model.D_Y(model.G(pictures(0))), atol=1e-9)
    np.testing.assert_allclose(sample["D_X/true"], model.D_X(pictures(0)), atol=1e-9)
    assert all(np.array_equal(v, values(model)[name]) for name, v in before.items())


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "lambda_identity": 0.5}, {"use_lsgan": False, "norm": "batch"}])
def test_a_checkpoint_holds_the_whole_state(tmp_path, settings):
    """Cut anywhere, restored into a fresh model and continued: all is as without the cut."""
    keras.utils.set_random_seed(5)
    whole, cut = tiny(**settings), None
    for step in range(5):
        if step == 3:  # the pools are full and swap by then
            path = tf.train.Checkpoint(model=whole).save(str(tmp_path / "model.ckpt"))
            keras.utils.set_random_seed(6)
            cut = tiny(**settings)
            status = tf.train.Checkpoint(model=cut).restore(path)
            status.assert_existing_objects_matched()
            status.assert_consumed()
        for model in filter(None, (whole, cut)):
            model.train_step(pictures(step), pictures(step + 9))
    expected, found = values(whole), values(cut)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (0.5, 0.0)])
def test_the_identity_loss_may_come_and_go_when_a_run_continues(tmp_path, before, after):
    path = tf.train.Checkpoint(model=tiny(lambda_identity=before)).save(str(tmp_path / "model.ckpt"))
    continued = tiny(lambda_identity=after)
    status = tf.train.Checkpoint(model=continued).restore(path)
    status.assert_existing_objects_matched()
    status.assert_consumed()
    continued.train_step(pictures(0), pictures(1))
    assert continued.non_finite() is None


def test_threads_do_not_decide_in_which_order_anything_is_added():
    """TensorFlow's sum of three or more begins with the input whose memory it can take over: one that nobody else is still to read.

    Which one that is must not depend on how far other threads are, or a step would have other last bits from run to run.
    """
    model = tiny(lambda_identity=0.5)
    graph = model.train_step.get_concrete_function(pictures(0), pictures(1)).graph

    def may_be_read_elsewhere(tensor: tf.Tensor) -> bool:
        views = ("Reshape", "Identity", "Squeeze", "ExpandDims")  # of the same memory
        return len(tensor.consumers()) > 1 or tensor.op.type in views and may_be_read_elsewhere(tensor.op.inputs[0])

    sums = [op for op in graph.get_operations() if op.type == "AddN" and len(op.inputs) > 2]
    assert sums
    assert [op.name for op in sums if any(map(may_be_read_elsewhere, op.inputs))] == []


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1), (99, 1), (100, 1), (125, 0.75), (150, 0.5), (199, 0.01), (200, 0), (201, 0), (10**9, 0)]
)
def test_the_learning_rate_is_constant_then_falls_to_0(step, share):
    assert float(ConstantThenLinear(2e-4, 100, 200)(tf.constant(step, tf.int64))) == pytest.approx(2e-4 * share)


@pytest.mark.parametrize(
    ("settings", "pictures", "expected"),
    [
        ({}, 1000, (100_000, 200_000)),
        ({"batch_size": 3}, 1000, (33_400, 66_800)),
        ({"n_epochs": 5, "n_epochs_decay": 0}, 10, (50, 50)),
        ({"max_steps": 500}, 1000, (250, 500)),
        ({"max_steps": 501}, 1000, (250, 501)),
        ({"max_steps": 10**6}, 1000, (100_000, 200_000)),
    ],
)
def test_training_ends_after_its_epochs_or_at_max_steps(settings, pictures, expected):
    assert training_length(Config(**settings), pictures) == expected


def test_without_decay_the_rate_stays_to_the_end():
    rates = [float(ConstantThenLinear(1.0, 50, 50)(tf.constant(step, tf.int64))) for step in (0, 49)]
    assert rates == [1, 1]


def test_the_optimizers_use_the_schedule():
    model = CycleGAN(Config(**TINY), decay_start=0, total_steps=2)
    rates = [float(model.train_step(pictures(i), pictures(9))["learning_rate"]) for i in range(3)]
    assert rates == pytest.approx([2e-4, 1e-4, 0])
    before = model.G.get_weights()
    model.train_step(pictures(0), pictures(9))
    assert all(itertools.starmap(np.array_equal, zip(before, model.G.get_weights(), strict=True)))
