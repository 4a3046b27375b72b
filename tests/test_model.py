"""CycleGAN against a plain reading of the paper, network by network.

Where the networks are not the point, each is one convolution: a step of theirs takes a tenth of the time.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from standin import small_networks

from discriminator import Discriminator
from generator import Generator
from model import CycleGAN
from training.checkpoints import initialise
from training.config import Config
from training.health import GeneratorHealth
from utils import ImagePool

NETWORKS = ("G", "F", "D_X", "D_Y")
TINY = {"image_size": 32, "ngf": 1, "ndf": 1, "n_res_blocks": 0, "pool_size": 2, "lambda_identity": 0, "ema": 0, "precision": "float32"}
# Each setting is another number, so that none can be taken for another; the average's decay binds from the second step on.
DISTINCT = {"lambda1": 7.0, "lambda2": 11.0, "real_label": 0.9, "beta1": 0.7, "learning_rate": 3e-3, "seed": 6, "ema": 0.15}


@pytest.fixture(autouse=True)
def eager(float64):
    keras.utils.set_random_seed(0)
    tf.config.run_functions_eagerly(True)  # a trace takes longer than the few steps of a test
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def small(monkeypatch):
    """Stand-ins for the networks."""
    small_networks(monkeypatch)


def tiny(**settings) -> CycleGAN:
    return CycleGAN(Config(**{**TINY, **settings}), decay_start=1000, total_steps=2000)


def pictures(seed: int, batch: int = 1) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (batch, 32, 32, 3)))


def values(model: CycleGAN) -> dict[str, np.ndarray]:
    """All that a checkpoint should hold, by name."""
    owners = {name: getattr(model, name).weights for name in (*NETWORKS, "G_ema", "F_ema") if hasattr(model, name)}
    others = ("generator_optimizer", "discriminator_optimizer", "pool_X", "pool_Y", "G_health", "F_health", "D_X_health", "D_Y_health")
    owners |= {name: getattr(model, name).variables for name in others}
    return {f"{owner}/{i}": v.numpy() for owner, variables in owners.items() for i, v in enumerate(variables)} | {
        "step": model.step.numpy()
    }


# --- the step


class PlainAdam:
    """Adam as in its paper (Kingma & Ba 2015, the efficient form at the end of section 2)."""

    def __init__(self, beta1: float):
        self.beta1, self.step, self.moments = beta1, 0, {}

    def apply(self, rate: float, gradients: list, variables: list) -> None:
        self.step += 1
        alpha = rate * np.sqrt(1 - 0.999**self.step) / (1 - self.beta1**self.step)
        for i, (g, v) in enumerate(zip(gradients, variables, strict=True)):
            m, s = self.moments.get(i, (0, 0))
            m, s = self.beta1 * m + (1 - self.beta1) * g, 0.999 * s + 0.001 * g**2
            self.moments[i] = m, s
            v.assign_sub(alpha * m / (tf.sqrt(s) + 1e-8))


class Plain:
    """The paper's step: each network with its own loss, gradient and optimizer. Begins with the weights of `model`."""

    def __init__(self, model: CycleGAN):
        self.config, self.step, self.pair = model.config, 0, None
        self.nets = {name: keras.models.clone_model(getattr(model, name)) for name in NETWORKS}
        for name, net in self.nets.items():
            net.set_weights(getattr(model, name).get_weights())
        self.adams = {name: PlainAdam(self.config.beta1) for name in NETWORKS}
        self.averages = {name: self.nets[name].get_weights() for name in "GF"}
        size, seed = self.config.pool_size, self.config.seed
        self.pools = {name: ImagePool(size, (32, 32, 3), 2 * seed + i, tf.float64) for i, name in enumerate("XY")}
        self.swaps = {"X": 0, "Y": 0}
        self.health = {name: GeneratorHealth(32) for name in "GF"}
        self.shares: dict[str, list] = {"D_X": [], "D_Y": []}

    def distance(self, logits, label: float):
        if self.config.use_lsgan:
            return tf.reduce_mean((logits - label) ** 2)
        return tf.reduce_mean(-label * tf.math.log_sigmoid(logits) - (1 - label) * tf.math.log_sigmoid(-logits))

    def past(self, domain: str, fakes: tf.Tensor) -> tf.Tensor:
        found = self.pools[domain].query(fakes, tf.constant(self.step, tf.int64))
        self.swaps[domain] += not np.array_equal(found, fakes)
        return found

    def train(self, x: tf.Tensor, y: tf.Tensor, rate: float) -> dict[str, float]:
        """Returns what the step should report."""
        config, real = self.config, self.config.real_label
        G, F, D_X, D_Y = (lambda p, net=net: net(p, training=True) for net in self.nets.values())
        fake_x, fake_y = F(y), G(x)
        past_x, past_y = self.past("X", fake_x), self.past("Y", fake_y)

        def l1(a, b):
            return tf.reduce_mean(tf.abs(a - b))

        pair = self.pair or ()
        parts = {
            "paired": lambda: config.lambda_paired * (l1(G(pair[0]), pair[1]) + l1(F(pair[1]), pair[0])),
            "G": lambda: self.distance(D_Y(G(x)), real),
            "F": lambda: self.distance(D_X(F(y)), real),
            "cycle": lambda: config.lambda1 * l1(F(G(x)), x) + config.lambda2 * l1(G(F(y)), y),
            "identity": lambda: config.lambda_identity * (config.lambda2 * l1(G(y), y) + config.lambda1 * l1(F(x), x)),
            "D_X": lambda: (self.distance(D_X(x), real) + self.distance(D_X(past_x), 0)) / 2,
            "D_Y": lambda: (self.distance(D_Y(y), real) + self.distance(D_Y(past_y), 0)) / 2,
        }
        shared = ["cycle", *["identity"] * bool(config.lambda_identity), *["paired"] * bool(pair)]
        found = {}
        for group in (("G", "F"), ("D_X", "D_Y")):  # gradients of a group before either moves
            gradients = {}
            for name in group:
                with tf.GradientTape() as tape:
                    losses = {part: parts[part]() for part in ([name, *shared] if name in "GF" else [name])}
                    loss = sum(losses.values())
                gradients[name] = tape.gradient(loss, self.nets[name].trainable_variables)
                found |= {f"loss/{part}": float(value) for part, value in losses.items()}
            for name in group:
                self.adams[name].apply(rate, gradients[name], self.nets[name].trainable_variables)
        for name, average in self.averages.items():
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            pairs = zip(average, self.nets[name].get_weights(), strict=True)
            self.averages[name] = [decay * slow + (1 - decay) * weight for slow, weight in pairs]
        found |= self.fare(x, y, fake_x, fake_y, found)
        self.step += 1
        return found | {"learning_rate": rate}

    def fare(self, x, y, fake_x, fake_y, found) -> dict[str, float]:
        step, undecided = tf.constant(self.step), self.config.real_label**2 / 4 if self.config.use_lsgan else np.log(2)
        fared = {f"G_{k}": v for k, v in self.health["G"].update(x, fake_y, y, step).items()}
        fared |= {f"F_{k}": v for k, v in self.health["F"].update(y, fake_x, x, step).items()}
        for D, shares in self.shares.items():
            shares.append(found[f"loss/{D}"] / undecided)
            fared[f"{D}_loss"] = np.mean(shares)
        return {f"health/{name}": float(value) for name, value in fared.items()}


def compare_steps(steps: int, batch: int, **settings) -> tuple[CycleGAN, Plain]:
    """Trains both ways: constant rate for a step, then falling. Weights and all that is reported must be equal."""
    config = Config(**{**TINY, **DISTINCT, "batch_size": batch, **settings})
    trained = CycleGAN(config, decay_start=1, total_steps=5)
    plain = Plain(trained)
    for step in range(steps):
        x, y = pictures(2 * step, batch), pictures(2 * step + 1, batch) * 0.5 + 0.3
        pair = [pictures(100 + 2 * step + i, batch) for i in range(2)] if config.X_paired else []
        plain.pair = pair
        expected = plain.train(x, y, 3e-3 * min((5 - step) / 4, 1))
        reported = {name: float(value) for name, value in trained.train_step(x, y, *pair).items()}
        assert reported == pytest.approx(expected, rel=1e-5, abs=1e-7)  # the statistics are float32
        losses = {name: value for name, value in reported.items() if name.startswith("loss/")}
        assert losses == pytest.approx({name: expected[name] for name in losses}, rel=1e-9)
    for name, net in plain.nets.items():
        for ours, theirs in zip(getattr(trained, name).trainable_variables, net.trainable_variables, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=name)
    return trained, plain


def test_the_step_is_the_papers_step():
    compare_steps(2, 2, pool_size=0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lambda_identity": 0.5, "pool_size": 1},
        {"use_lsgan": False},
        {"norm": "batch", "batch_size": 2},
        {"X_paired": "x", "Y_paired": "y", "lambda_paired": 6.0},
    ],
)
def test_every_setting_has_its_place_in_the_step(small, settings):
    trained, plain = compare_steps(3, settings.get("batch_size", 1), **{"pool_size": 1, **settings})
    assert min(plain.swaps.values()) > 0  # the discriminators have learned from older pictures
    for name, average in plain.averages.items():
        averages = getattr(trained, f"{name}_ema").get_weights()
        if "norm" not in settings:  # whose statistics count passes, of which the plain step makes more
            for ours, expected in zip(averages, average, strict=True):
                np.testing.assert_allclose(ours, expected, atol=1e-9)
    for domain in "XY":
        np.testing.assert_allclose(getattr(trained, f"pool_{domain}").pictures, plain.pools[domain].pictures, atol=1e-9)


def test_a_step_passes_training_to_every_network_and_nothing_else_does(small, monkeypatch):
    trained, calls, plain_call = tiny(ema=0.5, lambda_identity=0.5), [], keras.Model.__call__

    def call(self, *args, training=None, **kwargs):
        calls.append((self.name, training))
        return plain_call(self, *args, training=training, **kwargs)

    monkeypatch.setattr(keras.Model, "__call__", call)
    trained.train_step(pictures(0), pictures(1))
    passes = {"G": 3, "F": 3, "D_X": 3, "D_Y": 3}
    assert sorted(calls) == sorted((name, True) for name, count in passes.items() for _ in range(count))
    calls.clear()
    trained.config.lambda_identity = 0
    trained.train_step(pictures(0), pictures(1))
    assert len(calls) == 10  # four of the generators
    calls.clear()
    trained.sample(pictures(0), pictures(1))
    for translate in trained.translators():
        translate(np.zeros((32, 32, 3), np.uint8))
    assert {name for name, _ in calls} == {*NETWORKS, "G_ema", "F_ema"} and not any(training for _, training in calls)


def test_batch_norm_trains_and_keeps_statistics(small):
    trained = tiny(norm="batch", batch_size=2)
    for G, train in (
        (trained.G, lambda: trained.train_step(pictures(0, 2), pictures(1, 2))),
        (whole := Generator(1, 0, "batch"), lambda: whole(pictures(0, 2), training=True)),
    ):
        before = [v.numpy() for v in G.non_trainable_variables]
        train()
        assert before and all(not np.array_equal(a, b) for a, b in zip(before, G.non_trainable_variables, strict=True))


def test_how_far_the_averages_of_batch_norm_are_off(small):
    trained, x, y = tiny(norm="batch", batch_size=2, dropout=True), pictures(0, 2), pictures(1, 2) * 0.3
    before = values(trained)
    found = trained.averages_off(G=x, F=y)
    for name, picture in (("G", x), ("F", y)):
        network = getattr(trained, name)
        in_use = network(picture).numpy()
        expected = np.abs(in_use - network(picture, training=True)).mean() / 2  # which moves the averages
        assert float(found[f"health/{name}_averages_off"]) == pytest.approx(expected) and expected > 0.01
    assert not np.array_equal(before["G/4"], values(trained)["G/4"])
    fresh = tiny(norm="batch", batch_size=2)
    before = values(fresh)
    assert set(fresh.averages_off(G=x, F=y)) < set(fresh.sample(x, y))
    assert all(np.array_equal(value, values(fresh)[name]) for name, value in before.items())
    assert tiny(norm="batch").averages_off(G=x) == tiny(batch_size=2).averages_off(G=x) == {}


@pytest.fixture
def losses(small):
    """`losses(real_label=…)` makes a model for its losses alone."""
    return lambda **settings: tiny(pool_size=0, **settings)


def test_least_squares_losses(losses):
    of = losses(real_label=0.9)
    real, fake = tf.constant([[0.5, 1.0]], tf.float64), tf.constant([[0.2, -0.4]], tf.float64)
    assert float(of.generator_loss(fake)) == pytest.approx((0.7**2 + 1.3**2) / 2)
    assert float(of.discriminator_loss(real, fake)) == pytest.approx(((0.4**2 + 0.1**2) / 2 + (0.2**2 + 0.4**2) / 2) / 2)


def test_cross_entropy_losses_are_on_logits_and_do_not_saturate(losses):
    of = losses(use_lsgan=False)
    real, fake = tf.constant([[3.0]], tf.float64), tf.constant([[-50.0]], tf.float64)
    assert float(of.generator_loss(fake)) == pytest.approx(50.0)  # -log sigmoid(-50); log(1 - sigmoid) would be flat here
    assert float(of.discriminator_loss(real, fake)) == pytest.approx(np.log1p(np.exp(-3.0)) / 2)


def test_cycle_and_identity_losses_weigh_each_direction(losses):
    of = losses(lambda1=2.0, lambda2=3.0, lambda_identity=0.5)
    x, y = tf.zeros((1, 4, 4, 3), tf.float64), tf.ones((1, 4, 4, 3), tf.float64)
    assert float(of.cycle_consistency_loss(x, x + 0.5, y, y - 0.25)) == pytest.approx(2 * 0.5 + 3 * 0.25)
    of.G, of.F = lambda v, training: v - 0.1, lambda v, training: v + 0.7
    assert float(of.identity_loss(x, y)) == pytest.approx(0.5 * (3 * 0.1 + 2 * 0.7))


def test_a_model_begins_with_averages_that_are_its_weights(small):
    begun = tiny(ema=0.9)
    for average, network in ((begun.G_ema, begun.G), (begun.F_ema, begun.F)):
        for mine, theirs in zip(average.get_weights(), network.get_weights(), strict=True):
            assert np.array_equal(mine, theirs)
    assert begun.averages == {"G_ema": (begun.G_ema, begun.G), "F_ema": (begun.F_ema, begun.F)} and tiny().averages == {}


def test_the_networks_are_those_of_the_settings():
    built = CycleGAN(Config(**{**TINY, "ngf": 2, "ndf": 3, "n_res_blocks": 1, "norm": "batch", "batch_size": 2, "ema": 0.5}))
    generators, discriminators = [built.G, built.F, built.G_ema, built.F_ema], [built.D_X, built.D_Y]
    for nets, other in ((generators, Generator(2, 1, "batch", "resize")), (discriminators, Discriminator(3, "batch"))):
        for net in nets:
            assert [w.shape for w in net.weights] == [w.shape for w in other.weights]
    firsts = [net.get_weights()[0] for net in (built.G, built.F, built.D_X, built.D_Y)]
    assert not any(a.shape == b.shape and np.array_equal(a, b) for i, a in enumerate(firsts) for b in firsts[:i])


# --- what is no finite number


def test_the_first_loss_that_is_not_finite_is_named_with_its_step(small):
    trained = tiny(lambda_identity=0.5)
    trained.train_step(pictures(0), pictures(1))
    assert trained.non_finite() is None
    trained.config.lambda_identity = float("inf")
    for _ in range(2):
        trained.train_step(pictures(0), pictures(1))
    assert trained.non_finite() == trained.non_finite(weights=False) == ("loss/identity", 2)


@pytest.mark.parametrize("loss", ["loss/G", "loss/F", "loss/cycle", "loss/identity", "loss/D_X", "loss/D_Y", "loss/paired"])
def test_each_loss_is_watched(small, monkeypatch, loss):
    trained = tiny(**({"X_paired": "x", "Y_paired": "y"} if loss == "loss/paired" else {}))
    monkeypatch.setattr(trained, "_train_generators", lambda x, y: ({loss: tf.constant(np.nan, tf.float64)}, x, y))
    monkeypatch.setattr(trained, "_train_discriminators", lambda x, y, fake_x, fake_y: {})
    monkeypatch.setattr(trained, "_health", lambda *_: {})
    trained.step.assign(6)
    trained.train_step(pictures(0), pictures(1))
    assert trained.non_finite() == (loss, 7)


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_that_are_not_finite_are_noticed(small, network):
    trained = tiny()
    weight = getattr(trained, network).trainable_variables[-1]
    weight.assign(tf.fill(weight.shape, tf.constant(np.inf, weight.dtype)))
    assert trained.non_finite() == ("the networks' weights", 0) and trained.non_finite(weights=False) is None


# --- for looking at


def as_seen(picture: np.ndarray) -> np.ndarray:
    """[-1, 1] → 0 … 255, by another formula than that under test."""
    return np.floor(np.clip(np.asarray(picture) * 127.5 + 127.5, 0, 255) + 0.5).astype(np.uint8)


def test_sampling_looks_and_changes_nothing(small):
    trained = tiny(ema=0.5)
    for average in (trained.G_ema, trained.F_ema):  # six networks, no two alike
        average.set_weights([w + 0.3 for w in average.get_weights()])
    before, x, y = values(trained), pictures(0, 2), pictures(1, 2)
    G, F, D_X, D_Y = (lambda p, net=net: net(p).numpy() for net in (trained.G, trained.F, trained.D_X, trained.D_Y))
    seen = {
        "X/input": x, "X/generated": G(x), "X/reconstruction": F(G(x)),
        "Y/input": y, "Y/generated": F(y), "Y/reconstruction": G(F(y)),
    }  # fmt: skip
    answers = {"D_X/true": D_X(x), "D_X/fake": D_X(F(y)), "D_Y/true": D_Y(y), "D_Y/fake": D_Y(G(x))}
    sample = trained.sample(x, y)
    assert sample.keys() == seen.keys() | answers.keys()
    for name, expected in seen.items():
        assert np.array_equal(sample[name], as_seen(expected)), name
    for name, expected in answers.items():
        np.testing.assert_allclose(sample[name], expected, atol=1e-9, err_msg=name)
    assert len({sample[name].numpy().tobytes() for name in sample}) == 10
    assert all(np.array_equal(v, values(trained)[name]) for name, v in before.items())


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_translators_are_what_would_be_exported(small, ema):
    trained = tiny(ema=ema)
    if ema:
        for average in (trained.G_ema, trained.F_ema):
            average.set_weights([w + 0.3 for w in average.get_weights()])
    picture = np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)
    exported = (trained.G_ema, trained.F_ema) if ema else (trained.G, trained.F)
    found = [translate(picture) for translate in trained.translators()]
    expected = [as_seen(network(np.float32(picture[None]) / 127.5 - 1)[0]) for network in exported]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.uint8 and np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(found[0].astype(int) - found[1]).max() > 20


# --- checkpoints


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "lambda_identity": 0.5}, {"use_lsgan": False, "norm": "batch"}])
def test_a_checkpoint_holds_the_whole_state(small, tmp_path, settings):
    """Cut anywhere, restored into a fresh model and continued: all is as without the cut."""
    keras.utils.set_random_seed(5)
    settings = {"pool_size": 1, **settings}
    undisturbed, cut = tiny(**settings), None
    for step in range(3):
        if step == 2:  # the pools are full and swap by then
            path = tf.train.Checkpoint(model=undisturbed).save(str(tmp_path / "model.ckpt"))
            keras.utils.set_random_seed(6)
            cut = tiny(**settings)
            status = tf.train.Checkpoint(model=cut).restore(path)
            status.assert_existing_objects_matched()
            status.assert_consumed()
        for trained in filter(None, (undisturbed, cut)):
            trained.train_step(pictures(step), pictures(step + 9))
    expected, found = values(undisturbed), values(cut)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (0.5, 0.0)])
def test_the_identity_loss_may_come_and_go_when_a_run_continues(small, tmp_path, before, after):
    path = tf.train.Checkpoint(model=tiny(lambda_identity=before)).save(str(tmp_path / "model.ckpt"))
    continued = tiny(lambda_identity=after)
    status = tf.train.Checkpoint(model=continued).restore(path)
    status.assert_existing_objects_matched()
    status.assert_consumed()
    continued.train_step(pictures(0), pictures(1))
    assert continued.non_finite() is None


@pytest.mark.parametrize("theirs", [0.5, 0.0])
def test_a_model_is_initialised_with_another_ones_networks(small, tmp_path, theirs):
    other = tiny(ema=theirs)
    other.train_step(pictures(0), pictures(1))
    other.config.save(tmp_path)
    path = tf.train.Checkpoint(model=other).write(str(tmp_path / "model.ckpt-1"))
    keras.utils.set_random_seed(1)
    for ours in (0.9, 0.0):
        begun = tiny(ema=ours)
        fresh = values(begun)
        initialise(begun, path)
        expected = {name: getattr(other, name).get_weights() for name in NETWORKS}
        if ours:
            expected |= {f"{name}_ema": getattr(other, f"{name}_ema" if theirs else name).get_weights() for name in "GF"}
        for name, weights in expected.items():
            for mine, weight in zip(getattr(begun, name).get_weights(), weights, strict=True):
                assert np.array_equal(mine, weight), name
        for name, value in values(begun).items():
            assert name.split("/")[0] in expected or np.array_equal(value, fresh[name]), name


def test_threads_do_not_decide_in_which_order_anything_is_added(monkeypatch):
    """TensorFlow's sum of three or more begins with the input whose memory it can take over: one that nobody else is still to read.

    Which one that is must not depend on how far other threads are, or a step would have other last bits from run to run.
    """
    trained, passes = tiny(lambda_identity=0.5, n_res_blocks=1), {Generator: 0, Discriminator: 0}
    for kind in passes:

        def count(self, *args, kind=kind, plain=kind.__call__, **kwargs):
            passes[kind] += 1
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__call__", count)
    graph = trained.train_step.get_concrete_function(pictures(0), pictures(1)).graph
    assert passes == {Generator: 6, Discriminator: 6}  # no picture passes a network twice

    assert sums_in_an_order_of_threads(graph) == []


def sums_in_an_order_of_threads(graph: tf.Graph) -> list[str]:
    """The names of sums of three and more whose order can depend on threads; that there are others is made sure."""

    def may_be_read_elsewhere(tensor: tf.Tensor) -> bool:
        views = ("Reshape", "Identity", "Squeeze", "ExpandDims")  # of the same memory
        return len(tensor.consumers()) > 1 or tensor.op.type in views and may_be_read_elsewhere(tensor.op.inputs[0])

    sums = [op for op in graph.get_operations() if op.type == "AddN" and len(op.inputs) > 2]
    assert sums
    return [op.name for op in sums if any(map(may_be_read_elsewhere, op.inputs))]
