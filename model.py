"""CycleGAN: the losses of the paper (Zhu et al. 2017, sections 3 and 4) and one training step.

G: X → Y and F: Y → X are the generators, D_X and D_Y the discriminators.
"""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from discriminator import Discriminator
from generator import Generator
from system.devices import number_type
from system.replicas import mean, replicas, state, update
from training.config import Config
from training.health import GeneratorHealth, RunningMean
from utils import ImagePool, convert2float, convert2int

Losses = dict[str, tf.Tensor]
LOSS_NAMES = ("loss/G", "loss/F", "loss/cycle", "loss/identity", "loss/D_X", "loss/D_Y")


class ConstantThenLinear(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` until step `decay_start`, then linearly to 0 at `total_steps`."""

    def __init__(self, rate: float, decay_start: int, total_steps: int):
        self.rate, self.decay_start, self.total_steps = rate, decay_start, total_steps

    def __call__(self, step):
        # float64: float32 cannot count steps beyond 2²⁴
        left = tf.cast(self.total_steps - step, tf.float64) / max(self.total_steps - self.decay_start, 1)
        return tf.cast(self.rate * tf.clip_by_value(left, 0, 1), keras.config.floatx())

    def get_config(self) -> dict:
        return {"rate": self.rate, "decay_start": self.decay_start, "total_steps": self.total_steps}


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


def training_length(config: Config, pictures: int) -> tuple[int, int]:
    """Returns the step at which the decay starts and that at which training ends; `pictures`: of the larger domain."""
    steps_per_epoch = math.ceil(pictures / config.batch_size)
    total = steps_per_epoch * (config.n_epochs + config.n_epochs_decay)
    if config.max_steps is not None and config.max_steps < total:
        return config.max_steps // 2, config.max_steps
    return steps_per_epoch * config.n_epochs, total


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
        self.generator_optimizer = self._adam(self._generator_variables)
        self.discriminator_optimizer = self._adam(self._discriminator_variables)

        shape, dtype = (config.image_size, config.image_size, 3), tf.as_dtype(keras.config.floatx())
        self.pool_X = ImagePool(config.pool_size, shape, 2 * config.seed, dtype, name="pool_X")
        self.pool_Y = ImagePool(config.pool_size, shape, 2 * config.seed + 1, dtype, name="pool_Y")

        if config.ema:
            self.G_ema = build_generator(config, "G_ema")
            self.F_ema = build_generator(config, "F_ema")
            self.start_average()

        # 0: never; of all losses, as the identity loss may come and go when a run continues
        self.not_finite_since = state(tf.zeros(len(LOSS_NAMES), tf.int64), "not_finite_since")
        self.G_health, self.F_health = GeneratorHealth(config.image_size), GeneratorHealth(config.image_size)
        self.D_X_health, self.D_Y_health = RunningMean(), RunningMean()

    def start_average(self) -> None:
        """The moving averages begin as the weights."""
        self.G_ema.set_weights(self.G.get_weights())
        self.F_ema.set_weights(self.F.get_weights())

    def _adam(self, variables: list) -> keras.optimizers.Optimizer:
        optimizer = Adam(lambda: self.learning_rate(self.step), self.config.beta1)
        if self.config.precision == "float16":  # small gradients would vanish
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)  # its slots exist before a checkpoint is restored
        return optimizer

    @property
    def _generator_variables(self) -> list:
        return self.G.trainable_variables + self.F.trainable_variables

    @property
    def _discriminator_variables(self) -> list:
        return self.D_X.trainable_variables + self.D_Y.trainable_variables

    def adversarial_loss(self, logits: tf.Tensor, label: float) -> tf.Tensor:
        """How far a discriminator's answers are from `label`: least squares (Mao et al. 2017), or cross entropy on logits."""
        if self.config.use_lsgan:
            return tf.reduce_mean(tf.square(logits - label))
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), tf.cast(label, logits.dtype)), logits))

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
        G, F = self.G(y, training=True), self.F(x, training=True)
        return self.config.lambda_identity * (self.config.lambda2 * l1(G, y) + self.config.lambda1 * l1(F, x))

    @functools.cached_property
    def train_step(self) -> Callable[[tf.Tensor, tf.Tensor], Losses]:
        """(x, y) → scalars: one step of both generators, then of both discriminators; as a graph, compiled by XLA on request."""
        return tf.function(self._train_step, reduce_retracing=True, autograph=False, jit_compile=self.config.xla or None)

    def _train_step(self, x: tf.Tensor, y: tf.Tensor) -> Losses:
        learning_rate = self.learning_rate(self.step)
        if self.strategy.num_replicas_in_sync == 1:
            scalars = self._train_replica(x, y)
        else:
            of_all = self.strategy.run(self._train_replica, (x, y))  # all the same
            scalars = {name: self.strategy.experimental_local_results(values)[0] for name, values in of_all.items()}
        if self.config.ema:
            with self.strategy.scope():
                self._update_average(self.G_ema, self.G)
                self._update_average(self.F_ema, self.F)
        self.step.assign_add(1)
        return scalars | {"learning_rate": learning_rate}

    def _train_replica(self, x: tf.Tensor, y: tf.Tensor) -> Losses:
        """A replica's share of the step: its rows of the batch, and the same changes to the variables as all others make."""
        losses, fake_x, fake_y = self._train_generators(x, y)
        losses |= self._train_discriminators(x, y, fake_x, fake_y)
        losses = mean(losses)
        if replicas() > 1:
            # Batch norm: a replica's pictures are normalised among themselves; the averages for later use are those of all.
            for average in (w for network in (self.G, self.F, self.D_X, self.D_Y) for w in network.non_trainable_weights):
                average.assign(mean(tf.convert_to_tensor(average.value)))
        health = self._health(x, y, fake_x, fake_y, losses)
        self._note_what_is_not_finite(losses)
        return losses | health

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
            losses = {"loss/G": G_loss, "loss/F": F_loss, "loss/cycle": cycle_loss}
            total = self.generator_optimizer.scale_loss(total / replicas())  # optimizers sum over the replicas
        gradients = tape.gradient(total, self._generator_variables)
        if self.config.lambda_identity:
            # TensorFlow adds three gradients (AddN) in the order in which threads happen to be done, and would make one such sum of g + i.
            with tf.GradientTape() as tape:
                losses["loss/identity"] = self.identity_loss(x, y)
                total = self.generator_optimizer.scale_loss(losses["loss/identity"] / replicas())
            of_identity = tape.gradient(total, self._generator_variables)
            gradients = [tf.reduce_sum(tf.stack(pair), axis=0) for pair in zip(gradients, of_identity, strict=True)]
        self.generator_optimizer.apply(gradients, self._generator_variables)
        return losses, fake_x, fake_y

    def _train_discriminators(self, x: tf.Tensor, y: tf.Tensor, fake_x: tf.Tensor, fake_y: tf.Tensor) -> Losses:
        D_X, D_Y = self.D_X, self.D_Y
        past_x, past_y = self.pool_X.query(fake_x, self.step), self.pool_Y.query(fake_y, self.step)
        with tf.GradientTape() as tape:
            D_X_loss = self.discriminator_loss(D_X(x, training=True), D_X(past_x, training=True))
            D_Y_loss = self.discriminator_loss(D_Y(y, training=True), D_Y(past_y, training=True))
            total = self.discriminator_optimizer.scale_loss((D_X_loss + D_Y_loss) / replicas())
        gradients = tape.gradient(total, self._discriminator_variables)
        self.discriminator_optimizer.apply(gradients, self._discriminator_variables)
        return {"loss/D_X": D_X_loss, "loss/D_Y": D_Y_loss}

    def _health(self, x: tf.Tensor, y: tf.Tensor, fake_x: tf.Tensor, fake_y: tf.Tensor, losses: Losses) -> Losses:
        """Running statistics of the step (see health.py); a discriminator's is its loss as a share of one that cannot tell."""
        health = {f"health/G_{k}": v for k, v in self.G_health.update(x, fake_y, y, self.step).items()}
        health |= {f"health/F_{k}": v for k, v in self.F_health.update(y, fake_x, x, self.step).items()}
        undecided = tf.fill([1], tf.cast(self.config.real_label / 2 if self.config.use_lsgan else 0, x.dtype))
        undecided = self.discriminator_loss(undecided, undecided)
        health["health/D_X_loss"] = self.D_X_health.update(losses["loss/D_X"] / undecided, self.step)
        health["health/D_Y_loss"] = self.D_Y_health.update(losses["loss/D_Y"] / undecided, self.step)
        return health

    def _note_what_is_not_finite(self, losses: Losses) -> None:
        broken = ~tf.math.is_finite(tf.stack([losses.get(name, 0.0) for name in LOSS_NAMES]))
        self.not_finite_since.assign(tf.where((self.not_finite_since == 0) & broken, self.step + 1, self.not_finite_since))

    def non_finite(self, weights: bool = True) -> tuple[str, int] | None:
        """Names the losses that were the first not to be finite, or the weights if they are not, and the step; None if all is well."""
        since = self.not_finite_since.numpy()
        if since.any():
            first = since[since > 0].min()
            return ", ".join(name for name, step in zip(LOSS_NAMES, since, strict=True) if step == first), int(first)
        if weights and not all(
            bool(tf.reduce_all(tf.math.is_finite(w))) for network in (self.G, self.F, self.D_X, self.D_Y) for w in network.weights
        ):
            return "the networks' weights", int(self.step.numpy())
        return None

    def translators(self) -> list[Callable[[np.ndarray], np.ndarray]]:
        """G and F, or their moving averages if there are any, as functions of one picture, uint8 (H, W, 3), as they would be exported."""
        return [translator(generator) for generator in ((self.G_ema, self.F_ema) if self.config.ema else (self.G, self.F))]

    def _update_average(self, average: Generator, generator: Generator) -> None:
        # The first steps count less than the decay would have it, or the average would hang on to its random start.
        step = tf.cast(self.step, keras.config.floatx())
        decay = tf.minimum(tf.cast(self.config.ema, step.dtype), (1 + step) / (10 + step))
        for slow, weight in zip(average.weights, generator.weights, strict=True):
            update(slow.value, lambda slow, weight: decay * slow + (1 - decay) * weight, weight.value)

    @tf.function(reduce_retracing=True, autograph=False)
    def sample(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """Both translations, their reconstructions, and what the discriminators answer, for looking at; nothing is trained."""
        fake_y, fake_x = self.G(x), self.F(y)
        return {
            "X/input": x,
            "X/generated": fake_y,
            "X/reconstruction": self.F(fake_y),
            "Y/input": y,
            "Y/generated": fake_x,
            "Y/reconstruction": self.G(fake_x),
            "D_Y/true": self.D_Y(y),
            "D_Y/fake": self.D_Y(fake_y),
            "D_X/true": self.D_X(x),
            "D_X/fake": self.D_X(fake_x),
        }


def build_generator(config: Config, name: str) -> Generator:
    """The generator that a run's settings describe, with fresh weights."""
    with number_type(config.precision):
        return Generator(config.ngf, config.n_res_blocks, config.norm, config.upsample, name=name)


def translator(generator: Generator) -> Callable[[np.ndarray], np.ndarray]:
    @tf.function(reduce_retracing=True, autograph=False)
    def translate(picture):
        return convert2int(generator(convert2float(picture)[tf.newaxis], training=False)[0])

    return lambda picture: translate(tf.constant(picture)).numpy()


def l1(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(a - b))
