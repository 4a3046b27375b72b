"""What the tests share: a quiet TensorFlow, drawn pictures, and commands run in this process."""

import contextlib
import errno
import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import train
from pictures import images
from system import cli, devices


def split_cpu() -> None:
    """Makes two logical devices of the CPU, for tests of replicas."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.list_logical_devices()


devices.share_threads()  # as train.py does: the number of threads decides how sums are rounded
devices.quiet_tensorflow(split_cpu)

# Flags of train.py for a run of a few seconds that shows every gate open.
TINY_RUN = ["--image_size", "32", "--ngf", "2", "--ndf", "2", "--n_res_blocks", "1", "--pool_size", "2", "--ema", "0.9"]
TINY_RUN += ["--precision", "float32"]  # on whatever processor the tests run
TINY_RUN += ["--lambda_identity", "0"]  # whose two more passes are tested by themselves
TINY_RUN += ["--max_steps", "6", "--log_every", "2", "--image_every", "3", "--save_every", "4", "--keep_every", "5"]


@dataclass
class Outcome:
    """What a command left behind for its user."""

    status: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Wrong input: exit status 2, and one line on stderr that holds `words`."""
        assert self.status == cli.WRONG_INPUT, self.err
        assert self.err.count("\n") == 1, self.err
        for word in words:
            assert word in self.err


@pytest.fixture
def call(capfd):
    """`call(module.main, flag, value, …)` runs a command as a shell would and returns its `Outcome`."""

    def call(main, *argv: object) -> Outcome:
        capfd.readouterr()
        status = cli.run(main, [str(a) for a in argv])
        return Outcome(status, *capfd.readouterr())

    return call


@pytest.fixture
def ctrl_c_counts():
    """A command that inherits an ignored SIGINT, as in a background job, does not notice it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def forbid(monkeypatch):
    """`forbid(folder)`: it cannot be read. Whoever runs the tests may be allowed everything."""
    forbidden = []

    def deny(function):
        def denied(path):
            if Path(path).absolute() in forbidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path)

        return denied

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, deny(getattr(os, name)))
    return forbidden.append


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    """A tiny untrained model as export_graph.py writes it; to be read only."""
    import keras

    from formats import model_files
    from generator import Generator

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("pretrained") / "apple2orange.pb"
    metadata = {"image_size": 32, "generator": "resnet", "source": "apple", "target": "orange"}
    model_files.write([(Generator(ngf=4, n_res_blocks=1), metadata, path)])
    return path


def save_features(file: Path, dtype: str = "uint8", side: int | None = 8, outputs=None) -> Path:
    """Writes a SavedModel that takes pictures and returns, as their vectors, the mean of each quarter's colours, (B, 12)."""
    import tensorflow as tf

    def quarters(pictures):
        height, width = tf.shape(pictures)[1] // 2, tf.shape(pictures)[2] // 2
        corners = [pictures[:, top : top + height, left : left + width] for top in (0, height) for left in (0, width)]
        return tf.concat([tf.reduce_mean(tf.cast(corner, tf.float32), (1, 2)) for corner in corners], axis=1)

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), dtype, "pictures")], autograph=False)
    def serve(pictures):
        return (outputs or (lambda vectors: {"features": vectors}))(quarters(pictures))

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(file), {"serving_default": serve})
    return file


@pytest.fixture(scope="session")
def features_file(tmp_path_factory) -> Path:
    """A network of features for FID and KID, 12 numbers; to be read only."""
    return save_features(tmp_path_factory.mktemp("features") / "quarters")


@pytest.fixture
def float64():
    """Layers compute in float64, for comparisons with closed forms; it also shows that nothing insists on float32."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # Keras keeps the policy that it first derived from floatx
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def draw(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width][..., None] / 16
    phase, way = rng.uniform(0, 6, 3), rng.uniform(0.5, 2, (2, 3))
    return np.uint8(127.5 + 127 * np.sin(x * way[0] + y * way[1] + phase))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def write_records(file: Path, pictures: list[np.ndarray], pairs: bytes = b"") -> Path:
    """Writes pictures as PNG records named 0.png, 1.png, …; `pairs` tells of which set of pairs they are."""
    import tensorflow as tf

    from pictures.records import to_record

    with tf.io.TFRecordWriter(str(file)) as writer:
        for i, picture in enumerate(pictures):
            writer.write(to_record(f"{i}.png", images.encode(picture), pairs))
    return file


def divide(file: Path, name: Path, *counts: int) -> str:
    """Divides a TFRecord file into the shards of `name`, of so many records; returns what to type for them."""
    from pictures import shards
    from pictures.records import record_headers

    data = file.read_bytes()
    ends = [*record_headers(str(file))[0], len(data)]
    cuts = [ends[sum(counts[:i])] for i in range(len(counts) + 1)]
    assert cuts[-1] == len(data)
    for shard, first, last in zip(shards.names(name, len(counts)), cuts, cuts[1:], strict=False):
        Path(shard).write_bytes(data[first:last])
    return f"{name}@{len(counts)}"


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[str]:
    """The flags of train.py for two small domains, called red and blue."""
    folder = tmp_path_factory.mktemp("records")
    X = write_records(folder / "red.tfrecords", [draw(i) for i in range(5)])
    Y = write_records(folder / "blue.tfrecords", [draw(9 + i) for i in range(3)])
    return ["--X", str(X), "--Y", str(Y)]


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Without tracing a few steps take a third of the time. What they compute differs in the last bits."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's, that this leaves the input pipeline as it is
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def eager():
    with eagerly():
        yield


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, records) -> Path:
    """The folder of a finished tiny run, made eagerly."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with eagerly():
        assert cli.run(train.main, [*records, *TINY_RUN, "--checkpoints_dir", str(folder), "--run_name", "tiny"]) == cli.DONE
    return folder / "tiny"
