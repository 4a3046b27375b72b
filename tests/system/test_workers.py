"""N replicas make the same steps as one device: two logical CPUs in this process, and two real processes that talk to each other."""

import json
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import replicas
import tensorflow as tf
from conftest import TINY_RUN, divide
from standin import small_networks

import train
from model import CycleGAN
from pictures import shards
from system import cli
from system.cli import InputError, Stopped
from system.workers import GONE, NUMBER, Workers, connect, task

TESTS = Path(__file__).parents[1]


@pytest.fixture
def one() -> Workers:
    return Workers(tf.distribute.get_strategy())


@pytest.fixture
def two() -> Workers:
    workers = connect("mirrored")
    assert workers.strategy.num_replicas_in_sync == 2  # conftest.py splits the CPU
    return workers


def addresses(n: int) -> list[str]:
    """Addresses on this machine that are free."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(n)]
    found = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return found


def start(n: int, *command: object, folders: list[Path | None] = (None, None)) -> list[subprocess.Popen]:
    """Starts a command as each of `n` workers, each in a folder of its own if it is given one."""
    cluster = {"worker": addresses(n)}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folders[i],
        )
        for i in range(n)
    ]


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.long
def test_two_replicas_make_the_steps_of_one_device(float64, one, two):
    assert_same(replicas.train(two, 4, traced=False), replicas.train(one, 4, traced=False))


def test_small_networks_learn_the_same_on_two_replicas(float64, one, two, monkeypatch):
    small_networks(monkeypatch)
    assert_same(replicas.train(two, 2, traced=False), replicas.train(one, 2, traced=False))


def test_batch_norm_averages_are_those_of_all_replicas(float64, two, monkeypatch):
    """Each replica normalises its own pictures, so the steps are not those of one device; but all replicas must stay alike."""
    small_networks(monkeypatch)
    both, batches = replicas.model(two, norm="batch"), replicas.batches(two)
    replicas.step(two, both, next(batches), traced=False)
    averages = [w.value for network in (both.G, both.D_Y) for w in network.non_trainable_weights]
    assert averages
    for average in averages:
        first, second = (part.numpy() for part in two.strategy.experimental_local_results(average))
        np.testing.assert_array_equal(first, second)


class Heard(Workers):
    """Worker `index` of two, that hears `others` from the other one, word by word."""

    def __init__(self, index: int, *others: int):
        super().__init__(tf.distribute.get_strategy(), index, 2)
        self.others, self.said = iter(others), []

    def hear(self, word: int = 0) -> list[int]:
        self.said.append(word)
        return [word, next(self.others)] if self.index == 0 else [next(self.others), word]


def test_all_start_or_none():
    with Heard(0, 0).all_or_none():
        pass
    workers = Heard(0, 0)
    with pytest.raises(InputError, match="mine"), workers.all_or_none():
        raise InputError("mine")
    assert workers.said == [GONE]
    for index in (0, 1):
        with pytest.raises(Stopped, match=f"worker {1 - index} cannot start; it says why"), Heard(index, GONE).all_or_none():
            pass


def test_workers_end_together_or_hear_why_not():
    workers = Heard(1, 0)
    with workers.to_the_end(lambda: "lost"):
        pass
    assert workers.said == [0]
    workers = Heard(1, 0)
    with pytest.raises(KeyError), workers.to_the_end(lambda: "lost"):
        raise KeyError
    assert workers.said == [GONE]
    workers, lost = Heard(1), tf.errors.UnavailableError(None, None, "reset")
    with pytest.raises(Stopped, match="lost at 3"), workers.to_the_end(lambda: "lost at 3"):
        raise lost
    assert workers.said == []  # there is nobody to hear it
    with pytest.raises(tf.errors.UnavailableError), Workers(tf.distribute.get_strategy()).to_the_end(lambda: "lost"):
        raise lost


def test_workers_compare_and_add_up():
    assert Heard(0, NUMBER + 30).add_up(12) == 42
    Heard(1, NUMBER + zlib.crc32(b"a")).check_alike("settings", "a")
    with pytest.raises(InputError, match="the settings of worker 1 are not those of worker 0"):
        Heard(0, NUMBER + zlib.crc32(b"b")).check_alike("settings", "a")


def test_alone_a_worker_hears_itself(one):
    assert (one.hear(7), one.exchange("ä"), one.add_up(3), one.is_chief) == ([7], ["ä"], 3, True)
    one.check_alike("settings", "a")
    assert one.rows(3) == (0, 3) and one.spread("rows") == "rows"


def test_each_worker_reads_its_part_of_a_batch(two):
    first, second = (Workers(two.strategy, index, 2) for index in (0, 1))
    assert (first.rows(4), second.rows(4)) == ((0, 2), (2, 2)) and (first.is_chief, second.is_chief) == (True, False)
    assert first.replicas_here == 1 and two.replicas_here == 2
    for workers in (first, two):
        with pytest.raises(InputError, match="--batch_size 3: .* use 2 or 4"):
            workers.rows(3)


def test_each_replica_gets_its_rows(two):
    parts = two.strategy.experimental_local_results(two.spread(tf.constant([1, 2, 3, 4])))
    assert [part.numpy().tolist() for part in parts] == [[1, 2], [3, 4]]


def test_the_devices_are_named(one, two):
    assert (one.where(), two.where()) == ("CPU", "2 × CPU")
    assert Workers(two.strategy, 0, 2).where() == "2 × CPU, 2 workers"


@pytest.mark.long
def test_two_processes_make_the_steps_of_one_device(float64, one, tmp_path):
    workers = start(2, TESTS / "replicas.py", tmp_path / "found.npz")
    expected = replicas.train(one, replicas.STEPS)
    for worker in workers:
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
    with np.load(tmp_path / "found.npz") as found:
        assert_same({name.replace("|", "/"): found[name] for name in found}, expected)


@pytest.mark.parametrize(
    ("strategy", "tf_config", "flags", "words"),
    [
        ("multiworker", None, [], ["--strategy multiworker", "TF_CONFIG is not set"]),
        ("auto", "{", [], ["TF_CONFIG", "unset it"]),
        ("auto", "[1]", [], ["TF_CONFIG", "unset it"]),
        ("auto", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', [], ["TF_CONFIG", "no worker"]),
        ("auto", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}', [], ["TF_CONFIG", "no worker ps 0"]),
        ("mirrored", None, ["--batch_size", 3], ["--batch_size 3", "2 replicas", "use 2 or 4"]),
        ("mirrored", None, ["--batch_size", 1], ["--batch_size 1", "use 2"]),
        ("mirrored", None, ["--batch_size", 2, "--xla"], ["--xla", "leave it out"]),
        ("mirrored", None, ["--batch_size", 2, "--precision", "float16"], ["--precision float16", "use bfloat16"]),
    ],
)
def test_what_cannot_work_is_refused_at_the_door(call, records, tmp_path, monkeypatch, strategy, tf_config, flags, words):
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    outcome = call(train.main, *records, *flags, "--checkpoints_dir", tmp_path / "runs", "--strategy", strategy)
    outcome.assert_refused(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tf_config", "index", "addresses"),
    [
        (None, 0, []),
        ("", 0, []),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}, 0, ["a:1"]),
        ({"cluster": {"chief": ["c:9"], "worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}, 2, ["c:9", "a:1", "b:2"]),
        ({"cluster": {"chief": ["c:9"], "worker": ["a:1"]}, "task": {"type": "chief", "index": "0"}}, 0, ["c:9", "a:1"]),
    ],
)
def test_tf_config_says_who_the_workers_are(tf_config, index, addresses):
    assert task(json.dumps(tf_config) if isinstance(tf_config, dict) else tf_config) == (index, addresses)


@pytest.mark.long
def test_a_run_can_change_the_number_of_its_replicas(call, records, tmp_path, monkeypatch):
    """Begun on two replicas, a batch of one picture for each, and finished on one."""
    monkeypatch.setattr(CycleGAN, "train_step", CycleGAN._train_step)  # not traced, which would take longer
    flags = [*records, *TINY_RUN, "--batch_size", 2, "--checkpoints_dir", tmp_path]
    half = call(train.main, *flags, "--max_steps", 1, "--run_name", "r", "--strategy", "mirrored")
    assert half.status == cli.DONE and "2 × CPU" in half.out
    rest = call(train.main, "--load_model", tmp_path / "r", "--max_steps", 2)
    assert rest.status == cli.DONE and "steps 1 to 2" in rest.out
    assert (tmp_path / "r" / "model.ckpt-2.index").is_file()


@pytest.mark.long
def test_only_the_chief_keeps_anything_and_each_reads_what_it_has(records, tmp_path):
    """Two real workers of train.py, each in a folder of its own, with the shards that are its own."""
    folders = [tmp_path / "chief", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    X, Y = divide(Path(records[1]), tmp_path / "x", 2, 1, 2), divide(Path(records[3]), tmp_path / "y", 2, 1)
    for worker, folder in enumerate(folders):
        for file in (*shards.share(X, worker, 2), *shards.share(Y, worker, 2)):
            Path(file).rename(folder / Path(file).name)

    flags = ["--X", "x@3", "--Y", "y@2", "--shard_data", *TINY_RUN, "--max_steps", 1, "--batch_size", 2, "--run_name", "r"]
    workers = start(2, TESTS.parent / "train.py", *flags, "--strategy", "multiworker", "--checkpoints_dir", "runs", folders=folders)
    (out, err), (other_out, other_err) = (worker.communicate(timeout=120) for worker in workers)
    assert [worker.returncode for worker in workers] == [cli.DONE, cli.DONE], err + other_err
    assert "5 + 3 pictures" in out and "2 × CPU, 2 workers" in out and "trained to step 1" in out
    assert not other_out and other_err.count("\n") == 1 and "worker 1 of 2" in other_err
    assert sorted(file.name for file in folders[1].iterdir()) == ["x-00001-of-00003", "y-00001-of-00002"]
    run = folders[0] / "runs" / "r"
    assert (run / "model.ckpt-1.index").is_file()
    kept = json.loads((run / "data.json").read_text())
    assert [part["records"] for part in kept["X"]["shards"]] == [2, 1, 2] and [part["records"] for part in kept["Y"]["shards"]] == [2, 1]
