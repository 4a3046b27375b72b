"""Early warnings: running statistics of what the networks do, computed in the training step, and what to say when they look wrong."""

import tensorflow as tf

from system.replicas import mean, state

HORIZON = 200  # steps that a statistic looks back over, about
WARM_UP = 500  # steps before which nothing is judged: networks that have just begun do all of this
GRID = 8  # pictures are compared as 8×8 cells: what goes wrong here is large
# What counts as wrong. On a healthy run brightness settles above 0.5, variety and the discriminators' share near 1, change above 0.05.
INVERTED, ALIKE, COPIED, CERTAIN, OFF = -0.2, 0.2, 0.01, 0.1, 0.05
INVERTED_REMEDY = "It seldom finds back: start anew with another --seed, or with --lambda_identity 0.5, which holds on to colours"


class RunningMean(tf.Module):
    """The mean of all steps so far; after `HORIZON` steps an exponential one. A variable: part of the step, and of the checkpoint."""

    def __init__(self, *shape: int):
        super().__init__()
        self.value = state(tf.zeros(shape), "mean")

    def update(self, value: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Takes in this step's value, a mean over pictures, and returns the mean over steps; `step` counts from 0."""
        share = 1 / tf.cast(tf.minimum(step + 1, HORIZON), tf.float32)
        return self.value.assign_add(share * (mean(tf.cast(value, tf.float32)) - self.value))


class GeneratorHealth(tf.Module):
    """What a generator's pictures have to do with its inputs, and with the real pictures of the domain that it should reach."""

    def __init__(self, image_size: int):
        super().__init__()
        self.cell = image_size // GRID
        side = image_size // self.cell
        self.brightness = RunningMean(5)
        self.variety = RunningMean(2, 2, side, side, 3)
        self.change = RunningMean()

    def update(
        self, picture: tf.Tensor, fake: tf.Tensor, real: tf.Tensor, step: tf.Tensor, like: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Pictures (B, H, W, 3) in [-1, 1], `fake` the translation of `picture` → scalars, means over about the last `HORIZON` steps:

        brightness: correlation between the brightness of an input's cells and that of its translation's: 1 alike, -1 inverted. Where there
        are pictures `like` which the translations should be, these take the place of the inputs.
        variety: how much translations differ from one another, as a share of how much real pictures do.
        change: mean absolute difference between an input and its translation, as a share of the range of values.
        """
        picture, fake, real, like = (tf.cast(p, tf.float32) for p in (picture, fake, real, picture if like is None else like))
        change = self.change.update(tf.reduce_mean(tf.abs(fake - picture)) / 2, step)
        fake, real, like = (tf.nn.avg_pool2d(p, self.cell, self.cell, "VALID") for p in (fake, real, like))

        a, b = tf.reduce_mean(like, -1), tf.reduce_mean(fake, -1)
        moments = tf.stack([tf.reduce_mean(m) for m in (a, b, a * a, b * b, a * b)])
        a, b, aa, bb, ab = tf.unstack(self.brightness.update(moments, step))
        brightness = tf.math.divide_no_nan(ab - a * b, tf.sqrt(tf.maximum((aa - a * a) * (bb - b * b), 0)))

        both = tf.stack([fake, real])
        first, second = tf.unstack(self.variety.update(tf.reduce_mean(tf.stack([both, both * both]), axis=2), step))
        fake_spread, real_spread = tf.unstack(tf.sqrt(tf.maximum(tf.reduce_mean(second - first * first, axis=(1, 2, 3)), 0)))
        variety = (fake_spread + 1e-3) / (real_spread + 1e-3)  # 1 where there is but one picture
        return {"brightness": brightness, "variety": variety, "change": change}


def averages_findings(sample: dict[str, tf.Tensor], step: int) -> dict[str, str]:
    """As `findings`, of what batch norm's averages make of the pictures that are shown."""
    off = {name.split("/")[1].split("_")[0]: float(v) for name, v in sample.items() if name.endswith("_averages_off")}
    return {
        f"{G}_averages": f"{G}'s pictures in use, made with batch normalisation's averages, are {share:.0%} of the range off those of "
        "training. Usually helps: --norm instance, or --batch_size 1, where each picture has its own statistics in both"
        for G, share in off.items()
        if share > OFF and step >= WARM_UP
    }


def findings(health: dict[str, float], step: int) -> dict[str, str]:
    """What looks wrong, by topic, in words that say what usually helps. `health`: the step's scalars, by their names below health/."""
    found, paired = {}, "F_change" not in health  # there is one generator only, and the truth
    for G, D, real, weight in [("G", "D", "Y", "lambda_L1")] if paired else [("G", "D_Y", "Y", "lambda1"), ("F", "D_X", "X", "lambda2")]:
        brightness, variety, change = (health[f"{G}_{k}"] for k in ("brightness", "variety", "change"))
        if brightness < INVERTED and variety > ALIKE:  # of pictures that are all alike it says nothing
            found[f"{G}_inverts"] = f"{G} makes bright places dark and dark ones bright (correlation of brightness {brightness:.2f}). " + (
                "Usually helps: another --seed; and see that the pictures of a pair belong together" if paired else INVERTED_REMEDY
            )
        if variety < ALIKE:
            found[f"{G}_collapses"] = (
                f"{G}'s pictures are nearly all alike (they differ {variety:.2f} times as much as the real ones of {real}). "
                f"Usually helps: another --seed, a larger --{weight}, more varied pictures in {real}"
            )
        if change < COPIED:
            found[f"{G}_copies"] = (
                f"{G} hands its input back (it changes {change:.1%} of the range of values). "
                f"Usually helps: a smaller --{weight}{'' if paired else ' or --lambda_identity'}; and see that X is not Y"
            )
        if (share := health.get(f"{D}_loss", 1.0)) < CERTAIN:
            found[f"{D}_wins"] = (
                f"{D} tells real from generated pictures nearly every time (its loss is {share:.2f} of one that cannot tell): {G} learns "
                f"little. Usually helps: a smaller --ndf, --real_label 0.9, {'' if paired else '--lambda_identity 0.5, '}more pictures, "
                "another --seed"
            )
    return found if step >= WARM_UP else {}
