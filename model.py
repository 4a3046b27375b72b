"""CycleGAN: the losses of the paper (Zhu et al. 2017, sections 3 and 4) and one training step.

G: X → Y and F: Y → X are the generators, D_X and D_Y the discriminators.
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from discriminator import Discriminator
from generator import Generator, build_generator
from system.devices import number_type
from system.replicas import average_statistics, mean, on_replicas, state
from training.config import Config
from training.health import GeneratorHealth, RunningMean
from training.step import ConstantThenLinear, adam, minimize, not_finite, note_not_finite, update_average
from utils import ImagePool, convert2float, convert2int

Losses = dict[str, tf.Tensor]
LOSS_NAMES = ("loss/G", "loss/F", "loss/cycle", "loss/identity", "loss/D_X", "loss/D_Y")


class CycleGAN(tf.Module):
    """Two generators, two discriminators, their optimizers and pools: all that a checkpoint holds.

    Pictures are float (B, H, W, 3) in [-1, 1]. `decay_start` and `total_steps` are what `training_length` returns.
    """

    def __init__(self, config: Config, decay_start: int = 1, total_steps: int = 1):
        super().__init__(name="cyclegan")
        self.config = config
        self.strategy = tf.distribute.get_strategy()
        self.G = build_generator(config, "G")
        self.F = build_generator(config, "F")
        with number_type(config.precision):
            self.D_X = Discriminator(config.ndf, config.norm, name="D_X")
            self.D_Y = Discriminator(config.ndf, config.norm, name="D_Y")

        self.learning_rate = ConstantThenLinear(config.learning_rate, decay_start, total_steps)
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step", aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        G, F, D_X, D_Y = self.networks.values()
        self.generator_optimizer = adam(config, lambda: self.learning_rate(self.step), G.trainable_variables + F.trainable_variables)
        self.discriminator_optimizer = adam(
            config, lambda: self.learning_rate(self.step), D_X.trainable_variables + D_Y.trainable_variables
        )

        shape, dtype = (config.image_size, config.image_size, 3), tf.as_dtype(keras.config.floatx())
        self.pool_X = ImagePool(config.pool_size, shape, 2 * config.seed, dtype, name="pool_X")
        self.pool_Y = ImagePool(config.pool_size, shape, 2 * config.seed + 1, dtype, name="pool_Y")

        if config.ema:
            self.G_ema = build_generator(config, "G_ema")
            self.F_ema = build_generator(config, "F_ema")
            self.start_averages()

        # of all losses, as the identity loss may come and go when a run continues
        self.not_finite_since = state(tf.zeros(len(LOSS_NAMES), tf.int64), "not_finite_since")
        self.G_health, self.F_health = GeneratorHealth(config.image_size), GeneratorHealth(config.image_size)
        self.D_X_health, self.D_Y_health = RunningMean(), RunningMean()

    @property
    def networks(self) -> dict[str, keras.Model]:
        """The networks that are trained, by name."""
        return {"G": self.G, "F": self.F, "D_X": self.D_X, "D_Y": self.D_Y}

    @property
    def averages(self) -> dict[str, tuple[keras.Model, keras.Model]]:
        """The moving averages, by name, each with the network that it is of; none with `--ema 0`."""
        return {"G_ema": (self.G_ema, self.G), "F_ema": (self.F_ema, self.F)} if self.config.ema else {}

    def start_averages(self) -> None:
        """The moving averages begin as the weights."""
        for average, network in self.averages.values():
            average.set_weights(network.get_weights())

    def adversarial_loss(self, logits: tf.Tensor, label: float) -> tf.Tensor:
        """How far a discriminator's answers are from `label`: least squares (Mao et al. 2017), or cross entropy on logits."""
        if self.config.use_lsgan:
            return tf.reduce_mean(tf.square(logits - label))
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), tf.constant(label, logits.dtype)), logits))

    def generator_loss(self, fake_logits: tf.Tensor) -> tf.Tensor:
        """The generator wants its pictures to pass for real (with cross entropy: the non-saturating form)."""
        return self.adversarial_loss(fake_logits, self.config.real_label)

    def discriminator_loss(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Real pictures against generated ones; halved, which slows D down against G (section 4)."""
        return (self.adversarial_loss(real_logits, self.config.real_label) + self.adversarial_loss(fake_logits, 0.0)) / 2

    def cycle_consistency_loss(self, x: tf.Tensor, cycled_x: tf.Tensor, y: tf.Tensor, cycled_y: tf.Tensor) -> tf.Tensor:
        """lambda1 · |F(G(x)) - x| + lambda2 · |G(F(y)) - y| (equation 2)."""
        return self.config.lambda1 * l1(cycled_x, x) + self.config.lambda2 * l1(cycled_y, y)

    def identity_loss(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """lambda_identity · (lambda2 · |G(y) - y| + lambda1 · |F(x) - x|) (section 5.2)."""
        same_y, same_x = self.G(y, training=True), self.F(x, training=True)
        return self.config.lambda_identity * (self.config.lambda2 * l1(same_y, y) + self.config.lambda1 * l1(same_x, x))

    @functools.cached_property
    def train_step(self) -> Callable[[tf.Tensor, tf.Tensor], Losses]:
        """(x, y) → scalars: one step of both generators, then of both discriminators; as a graph, compiled by XLA on request."""
        return tf.function(self._train_step, reduce_retracing=True, autograph=False, jit_compile=self.config.xla or None)

    def _train_step(self, x: tf.Tensor, y: tf.Tensor) -> Losses:
        learning_rate = self.learning_rate(self.step)
        with self.strategy.scope():
            scalars = on_replicas(self._train_replica, x, y)
            for average, network in self.averages.values():
                update_average(average, network, self.config.ema, self.step)
        self.step.assign_add(1)
        return scalars | {"learning_rate": learning_rate}

    def _train_replica(self, x: tf.Tensor, y: tf.Tensor) -> Losses:
        """A replica's share of the step: its rows of the batch, and the same changes to the variables as all others make."""
        losses, fake_x, fake_y = self._train_generators(x, y)
        losses = mean(losses | self._train_discriminators(x, y, fake_x, fake_y))
        average_statistics(self.networks.values())
        note_not_finite(self.not_finite_since, [losses.get(name, 0.0) for name in LOSS_NAMES], self.step)
        return losses | self._health(x, y, fake_x, fake_y, losses)

    def _train_generators(self, x: tf.Tensor, y: tf.Tensor) -> tuple[Losses, tf.Tensor, tf.Tensor]:
        G, F, D_X, D_Y = self.G, self.F, self.D_X, self.D_Y
        with tf.GradientTape() as tape:
            fake_y, fake_x = G(x, training=True), F(y, training=True)
            cycled_x, cycled_y = F(fake_y, training=True), G(fake_x, training=True)

            G_loss = self.generator_loss(D_Y(fake_y, training=True))
            F_loss = self.generator_loss(D_X(fake_x, training=True))
            cycle_loss = self.cycle_consistency_loss(x, cycled_x, y, cycled_y)
            # G's term does not depend on F's weights, nor F's on G's: the gradient of the sum is each one's own.
            total = G_loss + F_loss + cycle_loss
        losses, terms = {"loss/G": G_loss, "loss/F": F_loss, "loss/cycle": cycle_loss}, [(tape, total)]
        if self.config.lambda_identity:
            with tf.GradientTape() as tape:
                losses["loss/identity"] = self.identity_loss(x, y)
            terms.append((tape, losses["loss/identity"]))
        minimize(self.generator_optimizer, G.trainable_variables + F.trainable_variables, *terms)
        return losses, fake_x, fake_y

    def _train_discriminators(self, x: tf.Tensor, y: tf.Tensor, fake_x: tf.Tensor, fake_y: tf.Tensor) -> Losses:
        D_X, D_Y = self.D_X, self.D_Y
        past_x, past_y = self.pool_X.query(fake_x, self.step), self.pool_Y.query(fake_y, self.step)
        with tf.GradientTape() as tape:
            D_X_loss = self.discriminator_loss(D_X(x, training=True), D_X(past_x, training=True))
            D_Y_loss = self.discriminator_loss(D_Y(y, training=True), D_Y(past_y, training=True))
            total = D_X_loss + D_Y_loss
        minimize(self.discriminator_optimizer, D_X.trainable_variables + D_Y.trainable_variables, (tape, total))
        return {"loss/D_X": D_X_loss, "loss/D_Y": D_Y_loss}

    def _health(self, x: tf.Tensor, y: tf.Tensor, fake_x: tf.Tensor, fake_y: tf.Tensor, losses: Losses) -> Losses:
        """Running statistics of the step (training/health.py); a discriminator's is its loss as a share of one that cannot tell."""
        health = {f"health/G_{k}": v for k, v in self.G_health.update(x, fake_y, y, self.step).items()}
        health |= {f"health/F_{k}": v for k, v in self.F_health.update(y, fake_x, x, self.step).items()}
        undecided = tf.fill([1], tf.cast(self.config.real_label / 2 if self.config.use_lsgan else 0, x.dtype))
        undecided = self.discriminator_loss(undecided, undecided)
        health["health/D_X_loss"] = self.D_X_health.update(losses["loss/D_X"] / undecided, self.step)
        health["health/D_Y_loss"] = self.D_Y_health.update(losses["loss/D_Y"] / undecided, self.step)
        return health

    def non_finite(self, weights: bool = True) -> tuple[str, int] | None:
        """Names the losses that were the first not to be finite, or the weights if they are not, and the step; None if all is well."""
        return not_finite(LOSS_NAMES, self.not_finite_since, self.networks.values() if weights else (), self.step)

    def translators(self) -> list[Callable[[np.ndarray], np.ndarray]]:
        """G and F, or their moving averages if there are any, as functions of one picture, uint8 (H, W, 3), as they would be exported."""
        return [of_pictures(generator) for generator in ((self.G_ema, self.F_ema) if self.config.ema else (self.G, self.F))]

    @tf.function(reduce_retracing=True, autograph=False)
    def sample(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """For looking at: both translations and their reconstructions, uint8 (B, H, W, 3), and what the discriminators answer, logits."""
        fake_y, fake_x = self.G(x), self.F(y)
        pictures = {"X/input": x, "X/generated": fake_y, "X/reconstruction": self.F(fake_y)}
        pictures |= {"Y/input": y, "Y/generated": fake_x, "Y/reconstruction": self.G(fake_x)}
        answers = {"D_Y/true": self.D_Y(y), "D_Y/fake": self.D_Y(fake_y), "D_X/true": self.D_X(x), "D_X/fake": self.D_X(fake_x)}
        return {name: convert2int(picture) for name, picture in pictures.items()} | answers


def of_pictures(generator: Generator) -> Callable[[np.ndarray], np.ndarray]:
    """A generator as a function of one picture, uint8 (H, W, 3) → uint8 (H, W, 3)."""

    @tf.function(reduce_retracing=True, autograph=False)
    def translate(picture):
        return convert2int(generator(convert2float(picture)[tf.newaxis], training=False)[0])

    return lambda picture: translate(tf.constant(picture)).numpy()


def l1(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(a - b))
