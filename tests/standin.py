"""Stand-ins that take a tenth of the time or less: for the networks, and for the whole model where a run is the point."""

from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from training.config import Config, training_length
from training.step import not_finite, note_not_finite


def one_convolution(filters: int, kernel: int, strides: int, norm: str, name: str, **layer) -> keras.Model:
    x = picture = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(filters, kernel, strides, kernel_initializer=keras.initializers.RandomNormal(stddev=0.5), **layer)(x)
    if norm == "batch":
        x = keras.layers.BatchNormalization()(x)
    return keras.Model(picture, x, name=name)


def small_networks(monkeypatch) -> None:
    """Gives the models of this test networks of one convolution each."""
    import model

    monkeypatch.setattr(model, "build_generator", lambda config, name: one_convolution(3, 1, 1, config.norm, name, activation="tanh"))
    monkeypatch.setattr(model, "build_discriminator", lambda config, name: one_convolution(1, 8, 8, config.norm, name))


class OneWeight(tf.Module):
    """Stands in for `CycleGAN`: its one weight moves by the learning rate times what it sees, and its loss is the square of it."""

    LOSSES = ("loss/G",)

    def __init__(self, config: Config, total_steps: int):
        super().__init__()
        self.config, self.learning_rate = config, SimpleNamespace(total_steps=total_steps)
        self.weight, self.step = tf.Variable(0.5), tf.Variable(0, dtype=tf.int64)
        self.ballast = tf.Variable(tf.zeros(1000 * config.ngf))  # its checkpoints fill a small disk, and are those of the settings
        self.since = tf.Variable(tf.zeros(1, tf.int64))
        self.health = {f"{G}_{k}": 1.0 for G in "GF" for k in ("brightness", "variety", "change")} | {"D_X_loss": 1.0, "D_Y_loss": 1.0}

    @property
    def weights(self) -> list[tf.Variable]:
        return [self.weight]

    def train_step(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        assert self.step < self.learning_rate.total_steps, "a loop without an end"
        loss = tf.square(self.weight)
        note_not_finite(self.since, [loss], self.step)
        self.weight.assign_add(self.config.learning_rate * (tf.reduce_mean(x) + 2 * tf.reduce_mean(y)))
        self.step.assign_add(1)
        return {"loss/G": loss, "learning_rate": tf.constant(self.config.learning_rate)} | {
            f"health/{k}": v for k, v in self.health.items()
        }

    def non_finite(self, weights: bool = True) -> tuple[str, int] | None:
        return not_finite(self.LOSSES, self.since, [self] if weights else (), self.step)

    def sample(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"X/input": tf.cast(x, tf.uint8), "D_Y/true": y}

    def translators(self) -> list:
        return [lambda picture: picture, lambda picture: 255 - picture]


def build_model(workers, config: Config, readers: list, begun: bool = False) -> OneWeight:
    """In the place of `train.build_model`."""
    return OneWeight(config, training_length(config, max(reader.total for reader in readers))[1])


def batches(step: int):
    """Endless batches from `step` on, float32 (1, 32, 32, 3), by which a weight's history can be told."""
    while True:
        x, y = np.random.default_rng(step).uniform(-1, 1, (2, 1, 32, 32, 3))
        yield tf.constant(x, tf.float32), tf.constant(y, tf.float32)
        step += 1
