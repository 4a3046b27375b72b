"""What a step is made of: the rate, Adam, the moving average and the check for finite numbers, each against its definition."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import Config, training_length
from training.step import Adam, ConstantThenLinear, adam, minimize, not_finite, note_not_finite, update_average


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1), (99, 1), (100, 1), (125, 0.75), (150, 0.5), (199, 0.01), (200, 0), (201, 0), (10**9, 0)]
)
def test_the_learning_rate_is_constant_then_falls_to_0(step, share):
    assert float(ConstantThenLinear(2e-4, 100, 200)(tf.constant(step, tf.int64))) == pytest.approx(2e-4 * share)


def test_without_decay_the_rate_stays_to_the_end():
    rates = [float(ConstantThenLinear(1.0, 50, 50)(tf.constant(step, tf.int64))) for step in (0, 49)]
    assert rates == [1, 1]


def test_the_rate_counts_steps_beyond_what_float32_can():
    schedule, late = ConstantThenLinear(1.0, 0, 2**25), 2**25 - 3
    assert [float(schedule(tf.constant(late + i, tf.int64))) * 2**25 for i in range(3)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("settings", "pictures", "expected"),
    [
        ({}, 1000, (100_000, 200_000)),
        ({"batch_size": 3}, 1000, (33_400, 66_800)),
        ({"n_epochs": 5, "n_epochs_decay": 0}, 10, (50, 50)),
        ({"n_epochs": 2, "n_epochs_decay": 5}, 10, (20, 70)),
        ({"max_steps": 500}, 1000, (250, 500)),
        ({"max_steps": 501}, 1000, (250, 501)),
        ({"max_steps": 10**6}, 1000, (100_000, 200_000)),
        ({"n_epochs": 2, "n_epochs_decay": 5, "max_steps": 70}, 10, (20, 70)),
    ],
)
def test_training_ends_after_its_epochs_or_at_max_steps(settings, pictures, expected):
    assert training_length(Config(**settings), pictures) == expected


def paper(gradients: np.ndarray, rates: list[float], beta1: float) -> np.ndarray:
    """The way of a weight that begins at 0, by Kingma and Ba, section 2: m̂ / (√v̂ + ε̂) in the efficient form."""
    weight = m = v = 0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + 0.001 * g**2
        weight = weight - rate * np.sqrt(1 - 0.999**t) / (1 - beta1**t) * m / (np.sqrt(v) + 1e-8)
    return weight


@pytest.mark.parametrize("size", [1e-8, 1e-6, 1.0])  # of the gradients: epsilon decides about the first
@pytest.mark.parametrize("beta1", [0.5, 0.9])
def test_adam_is_the_papers(float64, size, beta1):
    gradients = np.random.default_rng(0).uniform(-1, 1, (4, 3)) * size
    weight, rates = keras.Variable(np.zeros(3)), [0.1, 0.1, 0.07, 0.02]
    rate = tf.Variable(0.0, dtype=tf.float64)
    optimizer = adam(Config(beta1=beta1, precision="float32"), lambda: rate, [weight])
    for gradient, now in zip(gradients, rates, strict=True):
        rate.assign(now)
        optimizer.apply([tf.constant(gradient)], [weight])
    np.testing.assert_allclose(weight, paper(gradients, rates, beta1), rtol=1e-6)
    assert optimizer.iterations == 4


def test_the_optimizer_has_its_slots_before_a_checkpoint_is_restored():
    weight = keras.Variable(np.zeros(3, np.float32))
    plain, scaled = (adam(Config(precision=p), lambda: tf.constant(0.1), [weight]) for p in ("bfloat16", "float16"))
    assert isinstance(plain, Adam) and plain.built and plain.variables[-1].shape == (3,)
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer) and isinstance(scaled.inner_optimizer, Adam) and scaled.built


class Recorder(SimpleNamespace):
    """An optimizer that keeps the gradients."""

    def scale_loss(self, loss):
        return 8 * loss

    def apply(self, gradients, variables):
        self.gradients, self.variables = [g.numpy().tolist() for g in gradients], variables


def test_losses_of_several_tapes_are_minimized_together():
    a, b = tf.Variable([1.0, 2.0]), tf.Variable(3.0)
    with tf.GradientTape() as first:
        loss = tf.reduce_sum(a * a) * b
    optimizer = Recorder()
    minimize(optimizer, [a, b], (first, loss))
    assert optimizer.gradients == [[8 * 6, 8 * 12], 8 * 5] and optimizer.variables == [a, b]  # scaled, as float16 needs it
    with tf.GradientTape() as first:
        loss = tf.reduce_sum(a * a) * b
    with tf.GradientTape() as second:
        other = tf.reduce_sum(a) + 10 * b
    minimize(optimizer, [a, b], (first, loss), (second, other))
    assert optimizer.gradients == [[8 * 7, 8 * 13], 8 * 15]


@pytest.mark.parametrize(("ema", "decays"), [(0.999, [0.1, 2 / 11, 3 / 12, 101 / 110]), (0.2, [0.1, 2 / 11, 0.2, 0.2])])
def test_the_average_follows_quickly_at_first_and_then_lags(ema, decays):
    network, average = (SimpleNamespace(weights=[SimpleNamespace(value=tf.Variable(w)) for w in ws]) for ws in ([5.0, -3.0], [1.0, 2.0]))
    for step, decay in zip((0, 1, 2, 100), decays, strict=True):
        before = [slow.value.numpy() for slow in average.weights]
        update_average(average, network, ema, tf.constant(step, tf.int64))
        expected = [decay * slow + (1 - decay) * weight for slow, weight in zip(before, [5, -3], strict=True)]
        assert [slow.value.numpy() for slow in average.weights] == pytest.approx(expected)
    assert [weight.value.numpy() for weight in network.weights] == [5, -3]


def test_the_first_that_is_not_finite_is_found():
    names, since, step = ("a", "b", "c"), tf.Variable(tf.zeros(3, tf.int64)), tf.Variable(0, dtype=tf.int64)
    nan, inf = np.nan, -np.inf
    for losses, expected in (
        ([1, 2, 3], None), ([1, 2, inf], ("c", 2)), ([nan, 2, 3], ("c", 2)), ([nan, nan, nan], ("c", 2))
    ):  # fmt: skip
        note_not_finite(since, [tf.constant(float(loss)) for loss in losses], step)
        step.assign_add(1)
        assert not_finite(names, since, [], step) == expected
    assert since.numpy().tolist() == [3, 4, 2]
    since.assign([0, 4, 4])
    assert not_finite(names, since, [], step) == ("b, c", 4)
    since.assign([0, 0, 0])
    networks = [SimpleNamespace(weights=[tf.constant(1.0), tf.constant([2.0, broken])]) for broken in (3.0, nan)]
    assert not_finite(names, since, networks[:1], step) is None
    assert not_finite(names, since, networks, step) == ("the networks' weights", 4)
