"""pix2pix: the losses of the paper (Isola et al. 2017, section 3) and one training step, on pairs of pictures that belong together.

G: X → Y is the generator; the discriminator D sees a picture of X beside the one of Y that is, or is said to be, its translation.
"""

import keras
import tensorflow as tf

from discriminator import build_discriminator
from generator import build_generator, seed_dropout
from model import GAN, l1
from system.replicas import average_statistics, mean
from training.config import Config
from training.health import GeneratorHealth, RunningMean
from training.step import Losses, minimize
from utils import ImagePool, convert2int


class Pix2Pix(GAN):
    """A generator, a discriminator, their optimizers and the pool: all that a checkpoint holds.

    Pictures are float (B, H, W, 3) in [-1, 1]; row i of x and of y are a pair. `decay_start` and `total_steps` are what `training_length`
    returns.
    """

    generators = ("G",)
    losses = ("loss/G", "loss/L1", "loss/D")

    def __init__(self, config: Config, decay_start: int = 1, total_steps: int = 1):
        super().__init__("pix2pix", config, decay_start, total_steps)
        self.G = build_generator(config, "G")
        self.D = build_discriminator(config, "D", channels=6)
        seed_dropout([self.G], config.seed, self.step)
        self.generator_optimizer = self.optimizer(self.G)
        self.discriminator_optimizer = self.optimizer(self.D)
        shape, dtype = (config.image_size, config.image_size, 6), tf.as_dtype(keras.config.floatx())
        self.pool = ImagePool(config.pool_size, shape, 2 * config.seed, dtype, name="pool")
        if config.ema:
            self.G_ema = build_generator(config, "G_ema")
            self.start_averages()
        self.G_health, self.D_health = GeneratorHealth(config.image_size), RunningMean()

    @property
    def networks(self) -> dict[str, keras.Model]:
        """The networks that are trained, by name."""
        return {"G": self.G, "D": self.D}

    @property
    def averages(self) -> dict[str, tuple[keras.Model, keras.Model]]:
        """The moving average, by name, with the network that it is of; none with `--ema 0`."""
        return {"G_ema": (self.G_ema, self.G)} if self.config.ema else {}

    def train_replica(self, x: tf.Tensor, y: tf.Tensor) -> Losses:
        """One step of the discriminator, then of the generator, of a replica's rows of the batch."""
        with tf.GradientTape() as tape:
            fake_y = self.G(x, training=True)
        losses = self._train_discriminator(x, y, fake_y) if self.config.lambda_GAN else {}
        losses |= self._train_generator(tape, x, y, fake_y)
        losses = mean(losses)
        average_statistics(self.networks.values())
        self.note_not_finite(losses)
        return losses | self._health(x, y, fake_y, losses)

    def _train_discriminator(self, x: tf.Tensor, y: tf.Tensor, fake_y: tf.Tensor) -> Losses:
        past = self.pool.query(beside(x, fake_y), self.step)
        with tf.GradientTape() as tape:
            D_loss = self.discriminator_loss(self.D(beside(x, y), training=True), self.D(past, training=True))
        minimize(self.discriminator_optimizer, self.D.trainable_variables, (tape, D_loss))
        return {"loss/D": D_loss}

    def _train_generator(self, tape: tf.GradientTape, x: tf.Tensor, y: tf.Tensor, fake_y: tf.Tensor) -> Losses:
        """`tape` has seen `fake_y` made of x. G learns from the discriminator that has just learned (equations 1 to 4)."""
        with tape:
            G_loss = self.generator_loss(self.D(beside(x, fake_y), training=True)) if self.config.lambda_GAN else tf.zeros((), x.dtype)
            L1_loss = self.config.lambda_L1 * l1(y, fake_y)
            total = self.config.lambda_GAN * G_loss + L1_loss
        minimize(self.generator_optimizer, self.G.trainable_variables, (tape, total))
        return {"loss/G": G_loss, "loss/L1": L1_loss}

    def _health(self, x: tf.Tensor, y: tf.Tensor, fake_y: tf.Tensor, losses: Losses) -> Losses:
        """Running statistics of the step (training/health.py); the discriminator's is its loss as a share of one that cannot tell."""
        health = {f"health/G_{k}": v for k, v in self.G_health.update(x, fake_y, y, self.step, like=y).items()}
        if self.config.lambda_GAN:
            health["health/D_loss"] = self.D_health.update(losses["loss/D"] / self.undecided_loss(x.dtype), self.step)
        return health

    @tf.function(reduce_retracing=True, autograph=False)
    def sample(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """For looking at: inputs, translations and what these should be, uint8 (B, H, W, 3), and what the discriminator answers, logits."""
        fake_y = self.G(x)
        pictures = {"X/input": x, "X/generated": fake_y, "X/truth": y}
        answers = {"D/true": self.D(beside(x, y)), "D/fake": self.D(beside(x, fake_y))}
        return {name: convert2int(picture) for name, picture in pictures.items()} | answers | self.averages_off(G=x)


def beside(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Two pictures (B, H, W, 3) as one of six channels."""
    return tf.concat([x, y], axis=-1)
