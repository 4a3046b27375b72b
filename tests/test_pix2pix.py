"""pix2pix against a plain reading of its paper, against a step written in PyTorch, and through the commands."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, eagerly, write_records
from standin import small_networks
from test_model import PlainAdam, pictures, sums_in_an_order_of_threads

import export_graph
import train
from formats import model_files
from generator import UNet
from model import CycleGAN
from pix2pix import Pix2Pix, beside
from system import cli
from system.workers import connect
from training.config import MODELS, Config, training_length
from training.health import GeneratorHealth
from utils import ImagePool

TINY = {"image_size": 32, "ngf": 1, "ndf": 1, "unet_levels": 3, "pool_size": 2, "precision": "float32", "n_layers_D": 2}
DISTINCT = {"lambda_L1": 7.0, "lambda_GAN": 1.5, "real_label": 0.9, "beta1": 0.7, "learning_rate": 3e-3, "seed": 6, "ema": 0.15}


@pytest.fixture
def eager(float64):
    keras.utils.set_random_seed(0)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def settings(**more) -> Config:
    return Config(**{**MODELS["pix2pix"], "model": "pix2pix", **TINY, **more})


def tiny(**more) -> Pix2Pix:
    return Pix2Pix(settings(**more), decay_start=1000, total_steps=2000)


def tiny_cyclegan(**more) -> CycleGAN:
    """Of U-Nets and discriminators of pixels."""
    kind = {"generator": "unet", "dropout": True, "discriminator": "pixel", "lambda_identity": 0.5, "ema": 0.5}
    return CycleGAN(Config(**{**TINY, **kind, **more}), decay_start=1000, total_steps=2000)


def state(model: Pix2Pix | CycleGAN) -> dict[str, np.ndarray]:
    """All that a checkpoint should hold, by name."""
    owners = {name: network.weights for name, network in model.networks.items()}
    owners |= {name: average.weights for name, (average, _) in model.averages.items()}
    others = (
        "generator_optimizer",
        "discriminator_optimizer",
        "pool",
        "pool_X",
        "pool_Y",
        "G_health",
        "F_health",
        "D_health",
        "D_X_health",
    )
    owners |= {name: getattr(model, name).variables for name in others if hasattr(model, name)}
    found = {f"{owner}/{i}": v.numpy() for owner, variables in owners.items() for i, v in enumerate(variables)}
    return found | {"step": model.step.numpy(), "not_finite_since": model.not_finite_since.numpy()}


class Plain:
    """The paper's step. Begins with the weights of `model`."""

    def __init__(self, model: Pix2Pix):
        self.config, self.step = model.config, 0
        self.G, self.D = (keras.models.clone_model(net) for net in (model.G, model.D))
        for ours, theirs in ((self.G, model.G), (self.D, model.D)):
            ours.set_weights(theirs.get_weights())
        self.adams = {name: PlainAdam(self.config.beta1) for name in "GD"}
        self.average = self.G.get_weights()
        self.pool = ImagePool(self.config.pool_size, (32, 32, 6), 2 * self.config.seed, tf.float64)
        self.health, self.shares = GeneratorHealth(32), []

    def distance(self, logits, label: float):
        if self.config.use_lsgan:
            return tf.reduce_mean((logits - label) ** 2)
        return tf.reduce_mean(-label * tf.math.log_sigmoid(logits) - (1 - label) * tf.math.log_sigmoid(-logits))

    def judged(self, x, y):
        return self.D(tf.concat([x, y], -1), training=True)

    def learn(self, name: str, rate: float, losses) -> dict[str, float]:
        """The total of what `losses()` returns is made smaller by the network of that name."""
        network = getattr(self, name)
        with tf.GradientTape() as tape:
            found, total = losses()
        self.adams[name].apply(rate, tape.gradient(total, network.trainable_variables), network.trainable_variables)
        return {f"loss/{part}": float(value) for part, value in found.items()}

    def train(self, x: tf.Tensor, y: tf.Tensor, rate: float) -> dict[str, float]:
        """Returns what the step should report."""
        config, fake = self.config, self.G(x, training=True)
        found = {}
        if config.lambda_GAN:
            past = self.pool.query(tf.concat([x, fake], -1), tf.constant(self.step, tf.int64))

            def of_D():
                loss = (self.distance(self.judged(x, y), config.real_label) + self.distance(self.D(past, training=True), 0)) / 2
                return {"D": loss}, loss

            found |= self.learn("D", rate, of_D)

        def of_G():
            fake = self.G(x, training=True)
            losses = {"L1": config.lambda_L1 * tf.reduce_mean(tf.abs(y - fake)), "G": tf.constant(0.0, tf.float64)}
            if config.lambda_GAN:
                losses["G"] = self.distance(self.judged(x, fake), config.real_label)  # by the discriminator that has just learned
            return losses, config.lambda_GAN * losses["G"] + losses["L1"]

        found |= self.learn("G", rate, of_G)
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        self.average = [decay * slow + (1 - decay) * w for slow, w in zip(self.average, self.G.get_weights(), strict=True)]
        step, undecided = tf.constant(self.step), config.real_label**2 / 4 if config.use_lsgan else np.log(2)
        fared = {f"G_{k}": float(v) for k, v in self.health.update(x, fake, y, step, like=y).items()}
        if config.lambda_GAN:
            self.shares.append(found["loss/D"] / undecided)
            fared["D_loss"] = np.mean(self.shares)
        self.step += 1
        return found | {f"health/{name}": value for name, value in fared.items()} | {"learning_rate": rate}


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": False},
        {"dropout": False, "use_lsgan": True, "norm": "instance", "pool_size": 1},
        {"dropout": False, "lambda_GAN": 0.0, "norm": "none"},
        {"dropout": False, "lambda_L1": 0.0, "discriminator": "pixel", "batch_size": 2, "norm": "instance", "pool_size": 0},
    ],
)
def test_the_step_is_the_papers_step(eager, more):
    """Constant rate for a step, then falling. Weights and all that is reported must be equal."""
    config = settings(**{**DISTINCT, **more})
    trained = Pix2Pix(config, decay_start=1, total_steps=5)
    plain = Plain(trained)
    for step in range(3):
        x, y = pictures(2 * step, config.batch_size), pictures(2 * step + 1, config.batch_size) * 0.5 + 0.3
        expected = plain.train(x, y, 3e-3 * min((5 - step) / 4, 1))
        reported = {name: float(value) for name, value in trained.train_step(x, y).items()}
        assert reported == pytest.approx(expected, rel=1e-5, abs=1e-7)  # the statistics are float32
        losses = {name: value for name, value in reported.items() if name.startswith("loss/")}
        assert losses == pytest.approx({name: expected[name] for name in losses}, rel=1e-9)
    for ours, theirs in ((trained.G, plain.G), (trained.D, plain.D)):
        for mine, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-9)
    for mine, other in zip(trained.G_ema.get_weights(), plain.average, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-9)
    assert not trained.non_finite()


def test_three_steps_are_those_of_a_step_written_in_pytorch():
    torch_networks = pytest.importorskip("torch_networks")
    torch = torch_networks.torch
    keras.utils.set_random_seed(0)
    trained = Pix2Pix(settings(ngf=4, ndf=4, dropout=False, pool_size=0), decay_start=1000, total_steps=2000)
    G, D = torch_networks.UNet("batch", 3).train(), torch_networks.Discriminator(2, "batch", channels=6).train()
    for theirs, ours in ((G, trained.G), (D, trained.D)):
        torch_networks.hand_over(theirs, ours)
    adams = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (G, D)]
    entropy = torch.nn.BCEWithLogitsLoss()

    def judged(x, y, real: bool):
        logits = D(torch.cat([x, y], 1))
        return entropy(logits, torch.full_like(logits, float(real)))

    for step in range(3):
        x, y = (np.random.default_rng([step, i]).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32) for i in (0, 1))
        losses = trained.train_step(tf.constant(x), tf.constant(y))
        x, y = (torch.from_numpy(p.transpose(0, 3, 1, 2).copy()) for p in (x, y))
        fake = G(x)
        D_loss = (judged(x, fake.detach(), False) + judged(x, y, True)) / 2
        adams[1].zero_grad()
        D_loss.backward()
        adams[1].step()
        G_loss, L1 = judged(x, fake, True), 100 * (y - fake).abs().mean()
        adams[0].zero_grad()
        (G_loss + L1).backward()
        adams[0].step()
        expected = {"loss/G": G_loss.item(), "loss/L1": L1.item(), "loss/D": D_loss.item()}
        assert {name: float(losses[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
    for theirs, ours in ((G, trained.G), (D, trained.D)):
        found = [w.numpy() for w in ours.trainable_variables]
        torch_networks.hand_over(theirs, ours)
        off = np.concatenate([np.ravel(np.abs(w - v.numpy())) for w, v in zip(found, ours.trainable_variables, strict=True)])
        assert (off > 0.01 * 2e-4).mean() < 0.005  # where gradients are as small as Adam's epsilon


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (tiny, {}),
        (tiny, {"ema": 0.9, "generator": "resnet", "n_res_blocks": 1, "unet_levels": None}),
        (tiny_cyclegan, {"norm": "batch", "batch_size": 2}),
    ],
)
def test_a_checkpoint_holds_the_whole_state(eager, tmp_path, make, more):
    """Dropout, too, which drops what it would have dropped."""
    undisturbed, cut, batch = make(pool_size=1, **more), None, more.get("batch_size", 1)
    for step in range(3):
        if step == 2:
            path = tf.train.Checkpoint(model=undisturbed).save(str(tmp_path / "model.ckpt"))
            keras.utils.set_random_seed(6)
            cut = make(pool_size=1, **more)
            status = tf.train.Checkpoint(model=cut).restore(path)
            status.assert_existing_objects_matched()
            status.assert_consumed()
        for trained in filter(None, (undisturbed, cut)):
            trained.train_step(pictures(step, batch), pictures(step + 9, batch))
    expected, found = state(undisturbed), state(cut)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


@pytest.mark.parametrize("make", [tiny, pytest.param(tiny_cyclegan, marks=pytest.mark.long)])
def test_two_replicas_are_as_one_device(eager, make):
    """Dropout and the pool included; with batch norm each would normalise its own pictures."""
    found = []
    for strategy in ("one", "mirrored"):
        workers = connect(strategy)
        keras.utils.set_random_seed(0)
        with workers.strategy.scope():
            trained = make(batch_size=2, norm="instance", ema=0.5)
        tf.config.run_functions_eagerly(strategy == "one")
        for step in range(2):
            trained.train_step(*(workers.spread(pictures(10 * step + i, 2)) for i in (0, 1)))
        found.append({name: value for name, value in state(trained).items() if "health" not in name})  # those are float32
    assert found[0].keys() == found[1].keys() and any(name.startswith("pool") for name in found[0])
    for name, one in found[0].items():
        np.testing.assert_allclose(one, found[1][name], atol=1e-10, err_msg=name)


@pytest.mark.parametrize("make", [tiny, tiny_cyclegan])
def test_threads_do_not_decide_in_which_order_anything_is_added(float64, make):
    graph = make().train_step.get_concrete_function(pictures(0), pictures(1)).graph
    assert sums_in_an_order_of_threads(graph) == []


def test_sampling_shows_what_it_should_be(eager):
    trained, x, y = tiny(), pictures(0), pictures(1)
    before, sample = state(trained), trained.sample(x, y)
    shown = {"X/input": x, "X/generated": trained.G(x), "X/truth": y}
    for name, expected in shown.items():
        assert np.abs(sample[name].numpy().astype(int) - np.clip((np.asarray(expected) + 1) * 127.5, 0, 255)).max() <= 0.5 + 1e-6, name
    np.testing.assert_allclose(sample["D/true"], trained.D(beside(x, y)))
    np.testing.assert_allclose(sample["D/fake"], trained.D(beside(x, trained.G(x))))
    assert sample.keys() == {*shown, "D/true", "D/fake"} and all(np.array_equal(v, state(trained)[k]) for k, v in before.items())


# --- through the commands


@pytest.fixture
def pairs(tmp_path) -> list[str]:
    """Flags of train.py for a small run on pairs."""
    for name, seed in (("x", 0), ("y", 9)):
        write_records(tmp_path / f"{name}.tfrecords", [draw(seed + i, 36, 40) for i in range(3)], pairs=b"digest")
    small = [f for k, v in TINY.items() for f in (f"--{k}", str(v))]
    flags = ["--X", tmp_path / "x.tfrecords", "--Y", tmp_path / "y.tfrecords", "--checkpoints_dir", tmp_path, "--run_name", "run"]
    return [*map(str, flags), "--model", "pix2pix", *small, "--max_steps", "2", "--load_size", "34"]


def test_a_run_is_trained_exported_and_used(call, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = call(train.main, *pairs)
    assert outcome.status == cli.DONE, outcome.err
    config = Config.load(tmp_path / "run")
    assert config == settings(X=pairs[1], Y=pairs[3], max_steps=2, load_size=34)
    call(export_graph.main, "--checkpoint_dir", "run", "--YtoX_model", "back.pb").assert_refused("--YtoX_model back.pb", "X to Y only")
    assert call(export_graph.main, "--checkpoint_dir", "run", "--XtoY_model", "./there.pb").status == cli.DONE
    assert not Path("pretrained").exists()
    model = model_files.load(tmp_path / "there.pb")
    assert {"generator": "unet", "multiple": 8, "source": "x", "target": "y"}.items() <= model.metadata.items()
    trained = Pix2Pix(config, *training_length(config, 3))
    tf.train.Checkpoint(model=trained).read(str(tmp_path / "run" / "model.ckpt-2")).expect_partial()
    picture = draw(5, 32, 32)  # in training: of its own statistics, as a batch of one has
    assert any("instance" in layer.name for layer in trained.G.layers)
    (in_training,) = trained.translators()
    assert np.abs(model(picture[None])[0].astype(int) - in_training(picture)).max() <= 1
    assert any(json.loads(line)["event"] == "finished" for line in Path("run/history.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lambda1", "5"], ["--lambda1 5.0", "--model cyclegan"]),
        (["--n_res_blocks", "3"], ["--n_res_blocks 3", "--generator resnet"]),
        (["--generator", "resnet"], ["--unet_levels 3", "--generator unet"]),
        (["--n_layers_D", "4"], ["--n_layers_D 4", "48 pixels"]),
        (["--recipe", "chapter"], ["--recipe chapter", "--model pix2pix"]),
        (["--model", "cyclegan", "--generator", "unet", "--lambda_L1", "5"], ["--lambda_L1 5.0", "--model pix2pix"]),
    ],
)
def test_what_means_nothing_is_refused(call, pairs, flags, words):
    call(train.main, *pairs, *flags).assert_refused(*words)


def test_pictures_of_no_pairs_are_refused(call, pairs, tmp_path):
    write_records(tmp_path / "y.tfrecords", [draw(i, 36, 40) for i in range(3)])
    call(train.main, *pairs).assert_refused("y.tfrecords", "--paired")
    write_records(tmp_path / "y.tfrecords", [draw(i, 36, 40) for i in range(3)], pairs=b"other")
    call(train.main, *pairs).assert_refused("x.tfrecords", "y.tfrecords", "not of the same pairs")
    assert not (tmp_path / "run").exists()


def test_every_default_of_the_paper_is_a_setting():
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name, value in MODELS["pix2pix"].items():
        assert value != fields[name].default
    assert isinstance(Pix2Pix(settings(unet_levels=None), 1, 1).G, UNet)


# --- some pairs beside many pictures of no pairs


@pytest.fixture
def quick(monkeypatch):
    """Small networks, and nothing is traced."""
    small_networks(monkeypatch)
    with eagerly():
        yield


def test_cyclegan_learns_from_some_pairs_too(call, pairs, records, tmp_path, quick):
    files = [*records, "--X_paired", pairs[1], "--Y_paired", pairs[3], "--checkpoints_dir", tmp_path]
    small = ["--image_size", 32, "--ngf", 1, "--ndf", 1, "--n_res_blocks", 0, "--pool_size", 0, "--precision", "float32"]
    assert call(train.main, *files, *small, "--max_steps", 1, "--run_name", "some").status == cli.DONE
    data = json.loads((tmp_path / "some" / "data.json").read_text())
    assert {name: one["records"] for name, one in data.items()} == {"X": 5, "Y": 3, "X_paired": 3, "Y_paired": 3}
    for name in ("other", "others"):
        write_records(tmp_path / f"{name}.tfrecords", [draw(i, 36, 40) for i in range(4)], pairs=b"digest")
    wrong = ("--load_model", tmp_path / "some", "--max_steps", 2, "--X_paired", tmp_path / "other.tfrecords")
    call(train.main, *wrong, "--Y_paired", tmp_path / "others.tfrecords").assert_refused("--X_paired", "cannot change")
    outcome = call(train.main, "--load_model", tmp_path / "some", "--max_steps", 2, "--lambda_paired", 3)
    assert outcome.status == cli.DONE and "paired" in outcome.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--X_paired", "x"], ["--X_paired x", "--Y_paired"]),
        (["--Y_paired", "y"], ["--Y_paired y", "--X_paired"]),
        (["--lambda_paired", "2"], ["--lambda_paired 2.0", "--X_paired and --Y_paired"]),
    ],
)
def test_pairs_come_in_two_files(call, records, flags, words):
    call(train.main, *records, *flags).assert_refused(*words)
