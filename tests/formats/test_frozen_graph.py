"""The TensorFlow 1 project's frozen graphs run: here ones that are written anew, as that project builds, trains and freezes its network."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw

import inference
from formats import frozen_graph, model_files
from pictures import images
from system.cli import InputError

tf1 = tf.compat.v1
SIZE = 32


def instance_norm(x):
    mean, variance = tf1.nn.moments(x, [1, 2], keepdims=True)
    depth = x.shape[3]
    scale = tf1.get_variable("scale", [depth], initializer=tf1.random_normal_initializer(1.0, 0.02))
    offset = tf1.get_variable("offset", [depth], initializer=tf1.constant_initializer(0.0))
    return scale * (x - mean) * tf1.rsqrt(variance + 1e-5) + offset


def convolution(x, name: str, k: int, size: int, stride: int = 1, pad: int = 0, norm: bool = True, activation=tf1.nn.relu):
    with tf1.variable_scope(name):
        kernel = tf1.get_variable("weights", [size, size, x.shape[3], k], initializer=tf1.random_normal_initializer(0.0, 0.2))
        if pad:
            x = tf1.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]], "REFLECT")
        x = tf1.nn.conv2d(x, kernel, [1, stride, stride, 1], "VALID" if pad else "SAME")
        return activation(instance_norm(x) if norm else x)


def upsampled(x, name: str, k: int, side: int):
    with tf1.variable_scope(name):
        kernel = tf1.get_variable("weights", [3, 3, k, x.shape[3]], initializer=tf1.random_normal_initializer(0.0, 0.2))
        return tf1.nn.relu(instance_norm(tf1.nn.conv2d_transpose(x, kernel, [1, side, side, k], [1, 2, 2, 1], "SAME")))


def network(x, ngf: int = 4, blocks: int = 1):
    """c7s1, two that halve, residual blocks, two that double, c7s1 to three channels; strided ones padded as TensorFlow's "SAME"."""
    x = convolution(x, "c7s1_32", ngf, 7, pad=3)
    x = convolution(x, "d64", 2 * ngf, 3, stride=2)
    x = convolution(x, "d128", 4 * ngf, 3, stride=2)
    for i in range(blocks):
        branch = convolution(x, f"R{i}_1", 4 * ngf, 3, pad=1)
        x = x + convolution(branch, f"R{i}_2", 4 * ngf, 3, pad=1, activation=tf1.identity)
    x = upsampled(x, "u64", 2 * ngf, SIZE // 2)
    x = upsampled(x, "u32", ngf, SIZE)
    return convolution(x, "output", 3, 7, pad=3, norm=False, activation=tf1.nn.tanh)


def freeze(file: Path, shape: tuple = (SIZE, SIZE, 3)):
    """Freezes such a network with random weights; returns it as a function of pictures, float `shape` each → uint8, by way of a JPEG."""
    graph = tf.Graph()
    with graph.as_default(), tf1.Session(graph=graph) as session:
        tf1.set_random_seed(0)
        picture = tf1.placeholder(tf.float32, shape, "input_image")
        output = network(picture[tf.newaxis] if len(shape) == 3 else picture)
        output = tf1.image.convert_image_dtype((output + 1.0) / 2.0, tf.uint8)[0]
        tf1.identity(tf1.image.encode_jpeg(output), "output_image")
        session.run(tf1.global_variables_initializer())
        frozen = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["output_image"])
    file.write_bytes(frozen.SerializeToString())

    def run(*pictures: np.ndarray) -> np.ndarray:
        with tf1.Session(graph=tf.Graph()) as session:
            tf1.import_graph_def(frozen, name="")
            return np.stack([images.decode(session.run("output_image:0", {"input_image:0": x})) for x in pictures])

    return run


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    file = tmp_path_factory.mktemp("frozen") / "apple2orange.pb"
    return file, freeze(file)


@pytest.fixture(scope="module")
def frozen_batch(tmp_path_factory):
    """One whose placeholder is for a batch of one."""
    file = tmp_path_factory.mktemp("frozen") / "batch.pb"
    return file, freeze(file, (1, SIZE, SIZE, 3))


def test_it_translates_as_its_own_session_does(frozen):
    file, run = frozen
    model = model_files.load(file)
    assert (model.image_size, model.fixed_size) == (SIZE, SIZE)
    assert (model.metadata["source"], model.metadata["target"]) == ("apple", "orange")
    pictures = np.stack([draw(seed, SIZE, SIZE) for seed in range(2)])
    expected = run(*(pictures / np.float32(127.5) - 1))
    assert expected.std() > 10
    assert np.abs(model(pictures).astype(int) - expected).max() <= 2  # a JPEG's rounding


def test_a_placeholder_with_a_batch_of_one_is_as_good(frozen_batch):
    file, run = frozen_batch
    picture = draw(3, SIZE, SIZE)[None]
    assert np.abs(model_files.load(file)(picture).astype(int) - run(picture / np.float32(127.5) - 1)).max() <= 2


@pytest.mark.parametrize(
    "height, width, flags, shape", [(48, 32, [], (48, 32)), (64, 64, [], (32, 32)), (20, 50, ["--keep_size"], (20, 50))]
)
def test_pictures_of_other_sizes_are_brought_to_its_own_or_go_in_tiles(call, frozen, tmp_path, height, width, flags, shape):
    images.write(tmp_path / "a.png", draw(0, height, width))
    outcome = call(inference.main, "--model", frozen[0], "--input", tmp_path / "a.png", "--output", tmp_path / "b.png", *flags)
    assert outcome.status == 0
    assert images.read(tmp_path / "b.png").shape == (*shape, 3)
    assert ("tiles are blended" in outcome.err) == (max(shape) > SIZE)


@pytest.mark.parametrize("height, width", [(32, 20), (5, 32), (9, 14)])
def test_smaller_pictures_are_mirrored_for_it(frozen, height, width):
    model, picture = model_files.load(frozen[0]), draw(0, height, width)
    mirrored = np.pad(picture, [(0, SIZE - height), (0, SIZE - width), (0, 0)], "symmetric")
    assert np.array_equal(model(np.stack([picture, 255 - picture]))[0], model(mirrored[None])[0, :height, :width])


def test_the_chapters_size_is_taken_and_another_refused(call, frozen, tmp_path):
    images.write(tmp_path / "a.png", draw(0, 40, 50))
    command = ["--model", frozen[0], "--input", tmp_path / "a.png", "--output", tmp_path / "b.png", "--image_size"]
    call(inference.main, *command, 64).assert_refused("--image_size 64", "is for 32 only")
    assert call(inference.main, *command, SIZE).status == 0
    assert images.read(tmp_path / "b.png").shape == (SIZE, SIZE, 3)


def other_names(data: bytes) -> bytes:
    graph = tf1.GraphDef.FromString(data)
    names = {"input_image": "picture", "output_image": "translation"}
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
    return graph.SerializeToString()


def other_input(data: bytes) -> bytes:
    graph = tf1.GraphDef.FromString(data)
    node = next(node for node in graph.node if node.name == "input_image")
    node.attr["shape"].shape.dim[1].size = -1
    return graph.SerializeToString()


def save(file: Path, make, shape: tuple = (SIZE, SIZE, 3)) -> Path:
    """Writes a graph whose output is `make` of its input."""
    with tf.Graph().as_default() as graph:
        tf1.identity(make(tf1.placeholder(tf.float32, shape, "input_image")), "output_image")
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: tf.io.encode_jpeg(tf.zeros((8, 8, 3), tf.uint8)), r"makes uint8 \(8, 8, 3\) of uint8 \(32, 32, 3\)"),
        (lambda x: tf.io.encode_jpeg(tf.zeros((64, 64, 3), tf.uint8)), r"makes uint8 \(64, 64, 3\) of uint8 \(32, 32, 3\)"),
        (lambda x: tf.constant(b"\xff\xd8garbage"), ""),
        (lambda x: tf.constant([b"a", b"b"]), "fails on "),
        (lambda x: tf.io.encode_jpeg(tf.io.decode_jpeg(tf.strings.as_string(x[0, 0, 0]))), "fails on .*InvalidArgumentError"),
    ],
    ids=["small", "large", "garbage", "vector", "failing"],
)
def test_what_is_no_translation_is_one_line(tmp_path, make, words):
    file = save(tmp_path / "m.pb", make)
    with pytest.raises(InputError, match=f"^{file}: {words}") as refused:
        model_files.load(file, trust=True)(draw(0, SIZE, SIZE)[None])
    assert "\n" not in str(refused.value)


def test_pictures_without_pixels_are_no_input(tmp_path):
    with pytest.raises(InputError, match=r"input_image is float32 \(0, 0, 3\), not"):
        model_files.load(save(tmp_path / "m.pb", lambda x: tf.constant(b""), (0, 0, 3)))


@pytest.mark.parametrize(
    "make, words",
    [
        (other_names, "a frozen graph, but not one of the TensorFlow 1 project"),
        (other_input, "a frozen graph whose input_image is float32"),
        (lambda data: data[:-100], "no model|damaged model"),
        (lambda data: b"", "no model"),
        (lambda data: bytes(range(256)), "no model"),
        (lambda data: images.encode(draw(0)), "no model"),
    ],
    ids=["names", "input", "cut", "empty", "bytes", "picture"],
)
def test_other_files_are_told_apart(tmp_path, frozen_batch, make, words):
    (tmp_path / "m.pb").write_bytes(make(frozen_batch[0].read_bytes()))
    with pytest.raises(InputError, match=f"^{tmp_path}/m.pb: ({words})"):
        model_files.load(tmp_path / "m.pb")


def test_a_part_of_a_saved_model_names_its_folder(model_file):
    with pytest.raises(InputError, match=f"is part of a SavedModel; name its folder, {model_file}$"):
        model_files.load(model_file / "saved_model.pb")


def test_a_graph_that_fails_in_any_other_way_is_one_line_too(tmp_path, monkeypatch):
    def load(file, data, trust):
        raise ValueError("not enough values to unpack")

    monkeypatch.setattr(frozen_graph, "load", load)
    (tmp_path / "odd.pb").write_bytes(b"a graph")
    with pytest.raises(InputError, match=r"odd\.pb: damaged frozen graph \(ValueError\)"):
        model_files.load(tmp_path / "odd.pb")
