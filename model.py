"""CycleGAN: the losses of the paper (Zhu et al. 2017, sections 3 and 4) and one training step.

G: X → Y and F: Y → X are the generators, D_X and D_Y the discriminators.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from discriminator import build_discriminator
from generator import build_generator, seed_dropout, without_dropout
from system.replicas import average_statistics, mean
from training.config import Config
from training.health import GeneratorHealth, RunningMean
from training.step import Losses, Trained, minimize
from utils import ImagePool, convert2float, convert2int


class GAN(Trained):
    """What the adversarial losses are, and which networks translate."""

    generators: Sequence[str]  # by name; a moving average's name ends in _ema

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

    def undecided_loss(self, dtype: tf.DType) -> tf.Tensor:
        """The loss of a discriminator that cannot tell real from generated pictures."""
        answer = tf.fill([1], tf.cast(self.config.real_label / 2 if self.config.use_lsgan else 0, dtype))
        return self.discriminator_loss(answer, answer)

    def averages_off(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """How far what generators make with batch norm's averages is from what they make in training: a mean, as a share of the range.

        `inputs`: pictures (B, H, W, 3), by the generator's name. Nothing without batch norm, or with batches of one.
        """
        if self.config.normalization != "batch":
            return {}
        found = {}
        for name, picture in inputs.items():
            network = self.networks[name]
            with keras.StatelessScope(), without_dropout(network):  # the averages stay as they are
                found[f"health/{name}_averages_off"] = l1(network(picture, training=False), network(picture, training=True)) / 2
        return found

    def translators(self) -> list[Callable[[np.ndarray], np.ndarray]]:
        """The generators, or their moving averages if there are any, as functions of one picture, uint8 (H, W, 3), as they are exported."""
        networks = self.networks | {name.removesuffix("_ema"): average for name, (average, _) in self.averages.items()}
        return [of_pictures(networks[name]) for name in self.generators]


class CycleGAN(GAN):
    """Two generators, two discriminators, their optimizers and pools: all that a checkpoint holds.

    Pictures are float (B, H, W, 3) in [-1, 1]. `decay_start` and `total_steps` are what `training_length` returns.
    """

    generators = ("G", "F")

    def __init__(self, config: Config, decay_start: int = 1, total_steps: int = 1):
        super().__init__("cyclegan", config, decay_start, total_steps)
        self.G = build_generator(config, "G")
        self.F = build_generator(config, "F")
        self.D_X = build_discriminator(config, "D_X")
        self.D_Y = build_discriminator(config, "D_Y")
        seed_dropout((self.G, self.F), config.seed, self.step)
        self.generator_optimizer = self.optimizer(self.G, self.F)
        self.discriminator_optimizer = self.optimizer(self.D_X, self.D_Y)

        shape, dtype = (config.image_size, config.image_size, 3), tf.as_dtype(keras.config.floatx())
        self.pool_X = ImagePool(config.pool_size, shape, 2 * config.seed, dtype, name="pool_X")
        self.pool_Y = ImagePool(config.pool_size, shape, 2 * config.seed + 1, dtype, name="pool_Y")

        if config.ema:
            self.G_ema = build_generator(config, "G_ema")
            self.F_ema = build_generator(config, "F_ema")
            self.start_averages()

        self.G_health, self.F_health = GeneratorHealth(config.image_size), GeneratorHealth(config.image_size)
        self.D_X_health, self.D_Y_health = RunningMean(), RunningMean()

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of all losses that may come up in a step."""
        of_pairs = ("loss/paired",) if self.config.X_paired else ()
        return ("loss/G", "loss/F", "loss/cycle", "loss/identity", "loss/D_X", "loss/D_Y", *of_pairs)

    @property
    def networks(self) -> dict[str, keras.Model]:
        """The networks that are trained, by name."""
        return {"G": self.G, "F": self.F, "D_X": self.D_X, "D_Y": self.D_Y}

    @property
    def averages(self) -> dict[str, tuple[keras.Model, keras.Model]]:
        """The moving averages, by name, each with the network that it is of; none with `--ema 0`."""
        return {"G_ema": (self.G_ema, self.G), "F_ema": (self.F_ema, self.F)} if self.config.ema else {}

    def cycle_consistency_loss(self, x: tf.Tensor, cycled_x: tf.Tensor, y: tf.Tensor, cycled_y: tf.Tensor) -> tf.Tensor:
        """lambda1 · |F(G(x)) - x| + lambda2 · |G(F(y)) - y| (equation 2)."""
        return self.config.lambda1 * l1(cycled_x, x) + self.config.lambda2 * l1(cycled_y, y)

    def identity_loss(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """lambda_identity · (lambda2 · |G(y) - y| + lambda1 · |F(x) - x|) (section 5.2)."""
        same_y, same_x = self.G(y, training=True), self.F(x, training=True)
        return self.config.lambda_identity * (self.config.lambda2 * l1(same_y, y) + self.config.lambda1 * l1(same_x, x))

    def paired_loss(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """lambda_paired · (|G(x) - y| + |F(y) - x|), of pictures that belong together: not the paper's, for who has some of these."""
        return self.config.lambda_paired * (l1(self.G(x, training=True), y) + l1(self.F(y, training=True), x))

    def train_replica(self, x: tf.Tensor, y: tf.Tensor, *pair: tf.Tensor) -> Losses:
        """One step of both generators, then of both discriminators, of a replica's rows; `pair`: x and y that belong together."""
        losses, fake_x, fake_y = self._train_generators(x, y, *pair)
        losses = mean(losses | self._train_discriminators(x, y, fake_x, fake_y))
        average_statistics(self.networks.values())
        self.note_not_finite(losses)
        return losses | self._health(x, y, fake_x, fake_y, losses)

    def _train_generators(self, x: tf.Tensor, y: tf.Tensor, *pair: tf.Tensor) -> tuple[Losses, tf.Tensor, tf.Tensor]:
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
        if pair:
            with tf.GradientTape() as tape:
                losses["loss/paired"] = self.paired_loss(*pair)
            terms.append((tape, losses["loss/paired"]))
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
        undecided = self.undecided_loss(x.dtype)
        health["health/D_X_loss"] = self.D_X_health.update(losses["loss/D_X"] / undecided, self.step)
        health["health/D_Y_loss"] = self.D_Y_health.update(losses["loss/D_Y"] / undecided, self.step)
        return health

    @tf.function(reduce_retracing=True, autograph=False)
    def sample(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """For looking at: both translations and their reconstructions, uint8 (B, H, W, 3), and what the discriminators answer, logits."""
        fake_y, fake_x = self.G(x), self.F(y)
        pictures = {"X/input": x, "X/generated": fake_y, "X/reconstruction": self.F(fake_y)}
        pictures |= {"Y/input": y, "Y/generated": fake_x, "Y/reconstruction": self.G(fake_x)}
        answers = {"D_Y/true": self.D_Y(y), "D_Y/fake": self.D_Y(fake_y), "D_X/true": self.D_X(x), "D_X/fake": self.D_X(fake_x)}
        return {name: convert2int(picture) for name, picture in pictures.items()} | answers | self.averages_off(G=x, F=y)


def of_pictures(generator: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A generator as a function of one picture, uint8 (H, W, 3) → uint8 (H, W, 3)."""

    @tf.function(reduce_retracing=True, autograph=False)
    def translate(picture):
        return convert2int(generator(convert2float(picture)[tf.newaxis], training=False)[0])

    return lambda picture: translate(tf.constant(picture)).numpy()


def l1(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(a - b))
