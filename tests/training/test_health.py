"""Early warnings: the statistics against their definitions, and what is said of them."""

import numpy as np
import pytest
import tensorflow as tf

from training.health import GRID, HORIZON, WARM_UP, GeneratorHealth, RunningMean, averages_findings, findings


def cells(pictures: np.ndarray) -> np.ndarray:
    """(n, 32, 32, 3) → the means of the 4×4 pixels of each of 8×8 cells, (n, 8, 8, 3)."""
    return pictures.reshape(-1, GRID, 4, GRID, 4, 3).mean((2, 4))


def pictures(seed: int, n: int = 6) -> np.ndarray:
    """Random, but smooth enough that cells differ."""
    coarse = np.random.default_rng(seed).uniform(-0.7, 0.7, (n, 8, 8, 3)) + np.random.default_rng(seed + 1).uniform(-0.3, 0.3, (n, 1, 1, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.float32)


def run(xs: np.ndarray, fakes: np.ndarray, reals: np.ndarray, batch: int = 1) -> dict[str, float]:
    """The scalars after one step for each batch."""
    health = GeneratorHealth(32)
    for step, i in enumerate(range(0, len(xs), batch)):
        scalars = health.update(*(tf.constant(p[i : i + batch]) for p in (xs, fakes, reals)), tf.constant(step, tf.int64))
    return {name: float(value) for name, value in scalars.items()}


def test_the_mean_is_that_of_all_steps_and_later_an_exponential_one():
    values, mean = np.random.default_rng(0).uniform(-1, 1, 3 * HORIZON), RunningMean()
    expected = 0.0
    for step, value in enumerate(values):
        got = float(mean.update(tf.constant(value, tf.float32), tf.constant(step, tf.int64)))
        expected = values[: step + 1].mean() if step < HORIZON else expected + (value - expected) / HORIZON
        assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_statistics_are_what_their_names_say(batch):
    xs, fakes, reals = pictures(0), pictures(10) * 0.6 + pictures(0) * 0.3, pictures(20)
    got = run(xs, fakes, reals, batch)
    brightness = np.corrcoef(cells(xs).mean(-1).ravel(), cells(fakes).mean(-1).ravel())[0, 1]
    spread = [np.sqrt(cells(p).var(0).mean()) for p in (fakes, reals)]
    assert got["brightness"] == pytest.approx(brightness, abs=1e-4)
    assert got["variety"] == pytest.approx(spread[0] / spread[1], rel=1e-2)
    assert got["change"] == pytest.approx(np.abs(fakes - xs).mean() / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("fake", "expected"),
    [
        (lambda x: x, {"brightness": 1, "variety": 1, "change": 0}),
        (lambda x: -x, {"brightness": -1, "variety": 1}),
        (lambda x: 0 * x + 0.5, {"brightness": 0, "variety": 0.003}),
    ],
)
def test_the_extremes(fake, expected):
    x = pictures(3)
    got = run(x, fake(x), x)
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=3e-3)


def test_pictures_that_are_all_one_do_not_count_as_collapsed():
    x = pictures(4, 1).repeat(5, 0)
    assert run(x, -x, x)["variety"] == pytest.approx(1)


@pytest.mark.parametrize("image_size", [32, 36, 60, 64])
def test_any_image_size_will_do(image_size):
    x = tf.random.stateless_uniform((1, image_size, image_size, 3), [0, 0], -1, 1)
    got = GeneratorHealth(image_size).update(x, -x, x, tf.constant(0, tf.int64))
    assert float(got["brightness"]) == pytest.approx(-1, abs=1e-4)


def test_with_a_truth_the_brightness_is_compared_with_that():
    x, truth = pictures(5), pictures(6)
    health = GeneratorHealth(32)
    for step in range(len(x)):
        batch = (tf.constant(p[step : step + 1]) for p in (x, 0.9 * truth, truth))
        got = health.update(*batch, tf.constant(step, tf.int64), like=tf.constant(truth[step : step + 1]))
    assert float(got["brightness"]) == pytest.approx(1, abs=1e-3)
    assert float(got["change"]) == pytest.approx(np.abs(0.9 * truth - x).mean() / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("sick", "topics", "remedy"),
    [
        ({}, [], ""),
        ({"G_brightness": -0.5}, ["G_inverts"], "pictures of a pair belong together"),
        ({"G_variety": 0.1}, ["G_collapses"], "--lambda_L1"),
        ({"G_change": 0.001}, ["G_copies"], "--lambda_L1"),
        ({"D_loss": 0.05}, ["D_wins"], "--ndf"),
        ({"D_loss": None}, [], ""),
    ],
)
def test_a_model_of_one_direction_is_judged_by_its_own(sick, topics, remedy):
    """None of what helps is a flag of another model."""
    health = {"G_brightness": 0.7, "G_variety": 0.9, "G_change": 0.1, "D_loss": 0.8} | sick
    found = findings({name: value for name, value in health.items() if value is not None}, WARM_UP)
    assert list(found) == topics
    assert all(remedy in words and "identity" not in words and "lambda1" not in words for words in found.values())


HEALTHY = {f"{G}_{k}": v for G in "GF" for k, v in (("brightness", 0.7), ("variety", 0.9), ("change", 0.1))} | {
    "D_X_loss": 0.8,
    "D_Y_loss": 0.9,
}


@pytest.mark.parametrize(
    ("sick", "topics", "remedy"),
    [
        ({}, [], ""),
        ({"G_brightness": -0.5}, ["G_inverts"], "--lambda_identity"),
        ({"F_variety": 0.1}, ["F_collapses"], "--lambda2"),
        ({"F_variety": 0.1, "F_brightness": -1}, ["F_collapses"], "--seed"),
        ({"G_change": 0.001}, ["G_copies"], "--lambda1"),
        ({"D_X_loss": 0.05}, ["D_X_wins"], "--ndf"),
        ({"G_brightness": -0.5, "D_Y_loss": 0.05}, ["G_inverts", "D_Y_wins"], "--seed"),
    ],
)
def test_what_is_wrong_is_named_with_what_helps(sick, topics, remedy):
    found = findings(HEALTHY | sick, WARM_UP)
    assert list(found) == topics
    assert all(remedy in words and "\n" not in words for words in found.values())
    assert findings(HEALTHY | sick, WARM_UP - 1) == {}


@pytest.mark.parametrize(
    ("name", "topic", "well", "ill"),
    [
        ("G_brightness", "G_inverts", -0.19, -0.21),
        ("F_variety", "F_collapses", 0.21, 0.19),
        ("F_change", "F_copies", 0.011, 0.009),
        ("D_X_loss", "D_X_wins", 0.11, 0.09),
        ("D_Y_loss", "D_Y_wins", 0.11, 0.09),
    ],
)
def test_only_what_is_beyond_the_limits_is_warned_of(name, topic, well, ill):
    """The limits of docs/reliability.md."""
    assert findings(HEALTHY | {name: well}, WARM_UP) == {} and list(findings(HEALTHY | {name: ill}, WARM_UP)) == [topic]


def test_nothing_is_judged_before_step_500():
    assert (WARM_UP, HORIZON) == (500, 200)


def test_averages_that_are_far_off_are_warned_of():
    sample = {"X/generated": tf.zeros((1, 2, 2, 3), tf.uint8), "health/G_averages_off": tf.constant(0.051), "health/F_averages_off": 0.049}
    found = averages_findings(sample, WARM_UP)
    assert list(found) == ["G_averages"] and "--batch_size 1" in found["G_averages"] and "5%" in found["G_averages"]
    assert averages_findings(sample, WARM_UP - 1) == {}
