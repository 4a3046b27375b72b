"""What a training step needs beside a model's losses: Adam and its rate, moving averages, the check for finite numbers, its graph."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from system.replicas import on_replicas, replicas, state, update
from training.config import Config

Losses = dict[str, tf.Tensor]


class Trained(tf.Module):
    """What the models have in common: a step that changes all that a checkpoint holds.

    A model has `networks`, by name those that it trains, and `averages`, by name the moving averages, each with the network that it is of;
    `train_replica`, a replica's share of the step; and the names of all `losses` that may come up in it.
    """

    networks: dict[str, keras.Model]
    averages: dict[str, tuple[keras.Model, keras.Model]]
    losses: Sequence[str]

    def __init__(self, name: str, config: Config, decay_start: int, total_steps: int):
        super().__init__(name=name)
        self.config = config
        self.strategy = tf.distribute.get_strategy()
        self.learning_rate = ConstantThenLinear(config.learning_rate, decay_start, total_steps)
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step", aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        # of all losses, as some may come and go when a run continues
        self.not_finite_since = state(tf.zeros(len(self.losses), tf.int64), "not_finite_since")

    def optimizer(self, *networks: keras.Model) -> keras.optimizers.Optimizer:
        """Adam at the model's learning rate."""
        return adam(self.config, lambda: self.learning_rate(self.step), [v for network in networks for v in network.trainable_variables])

    def start_averages(self) -> None:
        """The moving averages begin as the weights."""
        for average, network in self.averages.values():
            average.set_weights(network.get_weights())

    @functools.cached_property
    def train_step(self) -> Callable[..., Losses]:
        """(x, y, …) → scalars: one step, as a graph, compiled by XLA on request."""
        return tf.function(self._train_step, reduce_retracing=True, autograph=False, jit_compile=self.config.xla or None)

    def _train_step(self, *batch: tf.Tensor) -> Losses:
        learning_rate = self.learning_rate(self.step)
        with self.strategy.scope():
            scalars = on_replicas(self.train_replica, *batch)
            for average, network in self.averages.values():
                update_average(average, network, self.config.ema, self.step)
        self.step.assign_add(1)
        return scalars | {"learning_rate": learning_rate}

    def note_not_finite(self, losses: Losses) -> None:
        """Part of the step: what `non_finite` tells."""
        note_not_finite(self.not_finite_since, [losses.get(name, 0.0) for name in self.losses], self.step)

    def non_finite(self, weights: bool = True) -> tuple[str, int] | None:
        """Names the losses that were the first not to be finite, or the weights if they are not, and the step; None if all is well."""
        return not_finite(self.losses, self.not_finite_since, self.networks.values() if weights else (), self.step)


@dataclass
class ConstantThenLinear:
    """The learning rate: `rate` until step `decay_start`, then falling linearly to 0 at `total_steps`."""

    rate: float
    decay_start: int
    total_steps: int

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        # float64: float32 cannot count steps beyond 2²⁴
        left = tf.cast(self.total_steps - step, tf.float64) / max(self.total_steps - self.decay_start, 1)
        return tf.cast(self.rate * tf.clip_by_value(left, 0, 1), keras.config.floatx())


class Adam(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015) at the rate that a function returns; Keras' own, with one operation for each variable instead of fifteen.

    The step of a variable is rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε), where t counts the steps that were applied.
    """

    def __init__(self, rate: Callable[[], tf.Tensor], beta1: float):
        # epsilon: PyTorch's and TensorFlow 1's, not Keras' 1e-7
        super().__init__(lambda: rate() * self._correction(), beta_1=beta1, epsilon=1e-8)

    def _correction(self) -> tf.Tensor:
        """For the moments, which begin at 0."""
        t = tf.cast(self.iterations + 1, tf.float64)
        return tf.cast(tf.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t), keras.config.floatx())

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[i].value.handle,
            v=self._velocities[i].value.handle,
            beta1_power=tf.zeros((), variable.dtype),  # the correction is in the rate
            beta2_power=tf.zeros((), variable.dtype),
            lr=learning_rate,
            beta1=tf.constant(self.beta_1, variable.dtype),
            beta2=tf.constant(self.beta_2, variable.dtype),
            epsilon=tf.constant(self.epsilon, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
        )


def adam(config: Config, rate: Callable[[], tf.Tensor], variables: list) -> keras.optimizers.Optimizer:
    """Adam for `variables`, at `rate()`; with a loss scale in float16, in which small gradients would vanish."""
    optimizer = Adam(rate, config.beta1)
    if config.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)  # its slots exist before a checkpoint is restored
    return optimizer


def minimize(optimizer: keras.optimizers.Optimizer, variables: list, *losses: tuple[tf.GradientTape, tf.Tensor]) -> None:
    """One update of `variables` for the sum of `losses`, each a scalar with the tape that recorded it; the mean over the replicas.

    Each loss has a tape of its own because TensorFlow adds three or more gradients (AddN) in the order in which threads happen to be done.
    """
    share = optimizer.scale_loss(tf.constant(1 / replicas(), losses[0][1].dtype))  # optimizers sum over the replicas
    total, *more = [tape.gradient(loss, variables, output_gradients=share) for tape, loss in losses]
    if more:  # not as g + h, which TensorFlow would make part of such a sum
        total = [tf.reduce_sum(tf.stack(of_one), axis=0) for of_one in zip(total, *more, strict=True)]
    optimizer.apply(total, variables)


def update_average(average: keras.Model, network: keras.Model, decay: float, step: tf.Tensor) -> None:
    """One step of a moving average of a network's weights, outside of replicas; `step` counts from 0."""
    # The first steps count less than `decay` would have it, or the average would keep its random start for long.
    step = tf.cast(step, keras.config.floatx())
    decay = tf.minimum(tf.cast(decay, step.dtype), (1 + step) / (10 + step))
    for slow, weight in zip(average.weights, network.weights, strict=True):
        update(slow.value, lambda slow, weight: decay * slow + (1 - decay) * weight, weight.value)


def note_not_finite(since: tf.Variable, losses: Sequence[tf.Tensor], step: tf.Tensor) -> None:
    """Notes in `since`, a number a loss, the first step (counted from 1) in which that loss was not finite; 0: there was none."""
    broken = ~tf.math.is_finite(tf.stack(losses))
    since.assign(tf.where((since == 0) & broken, step + 1, since))


def not_finite(names: Sequence[str], since: tf.Variable, networks: Iterable[keras.Model], step: tf.Variable) -> tuple[str, int] | None:
    """Names the losses that were the first not to be finite, or the weights of `networks` if they are not, and the step."""
    steps = since.numpy()
    if steps.any():
        first = steps[steps > 0].min()
        return ", ".join(name for name, step in zip(names, steps, strict=True) if step == first), int(first)
    if not all(bool(tf.reduce_all(tf.math.is_finite(weight))) for network in networks for weight in network.weights):
        return "the networks' weights", int(step.numpy())
    return None
