"""The order of layers, the padding, written once for all runtimes, and the check that decides whether a model is kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from untrained import Shallow, shuffled

from formats import network, onnx, tflite
from formats.translator import Translator
from generator import Generator
from system import cli
from utils import convert2float, convert2int


@pytest.fixture(scope="module")
def generator() -> Shallow:
    return shuffled(Shallow(4), 0)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([draw(seed, 32, 32) for seed in range(2)])


@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, 8, 9, 30, 32, 61])
@pytest.mark.parametrize(("multiple", "smallest"), [(4, 8), (8, 16), (1, 1)])
def test_padding_mirrors_or_repeats_the_edge(size, multiple, smallest):
    length = next(n for n in range(smallest, 99, multiple) if n >= size)
    beyond = length - size
    expected = np.pad(np.arange(size), (0, beyond), "reflect" if beyond < size else "edge")
    np.testing.assert_array_equal(network.padding(size, multiple, smallest, np), expected)
    np.testing.assert_array_equal(network.padding(tf.constant(size), multiple, smallest, keras.ops), expected)


@pytest.mark.parametrize("size", [1, 5, 8, 30])
def test_padding_is_the_same_in_onnx(size):
    onnxruntime = pytest.importorskip("onnxruntime", reason="bash scripts/setup.sh onnx installs it")
    from onnx import TensorProto, helper

    graph = onnx.Graph()
    network.padding(onnx.Value(graph, "size"), 4, 8, graph)
    graph.nodes[-1].output[0] = "index"
    made = helper.make_graph(
        graph.nodes,
        "padding",
        [helper.make_tensor_value_info("size", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", onnx.OPSET)], ir_version=onnx.IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["index"], {"size": np.array(size, np.int64)})[0], network.padding(size, 4, 8, np))


def test_pictures_are_padded_at_the_bottom_and_the_right():
    some = np.stack([draw(0, 5, 9), draw(1, 5, 9)])
    np.testing.assert_array_equal(network.pad(some, 4, 8), np.pad(some, [(0, 0), (0, 3), (0, 3), (0, 0)], "reflect"))


def test_value_ranges_are_the_ones_of_training():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(network.to_float(levels), convert2float(levels))
    assert network.to_float(levels).dtype == np.float32
    values = np.linspace(-1.1, 1.1, 999, dtype=np.float32)
    np.testing.assert_array_equal(network.to_int(values), convert2int(values))


def test_layers_come_in_order_with_their_inputs():
    generator, seen = shuffled(Generator(2, 1), 0), []

    def emit(layer, *inputs):
        seen.append(layer)
        return layer(inputs if len(inputs) > 1 else inputs[0])

    x = network.to_float(draw(0, 16, 16)[None])
    np.testing.assert_array_equal(network.replay(generator, x, emit), generator(x))
    assert seen == generator.layers[1:]


@pytest.mark.parametrize("emitter", [onnx.Graph, tflite.Layers])
def test_a_layer_that_is_not_known_is_named(emitter):
    picture = keras.Input((None, None, 3))
    odd = keras.Model(picture, keras.layers.Softmax(name="odd")(picture))
    with pytest.raises(TypeError, match="odd: .* no method for a Softmax"):
        network.replay(odd, picture, network.by_kind(emitter()))


# --- the check


def translator(generate, run=None, **metadata) -> Translator:
    run = run or (lambda some: network.to_int(generate(some)))
    return Translator("file", {"source": "red", "target": "blue", **metadata}, "CPU", run, generate)


@pytest.fixture
def faithful(generator):
    """What a model that is right makes of pictures before rounding."""

    def generate(some):
        height, width = some.shape[1:3]
        sides = [(0, 0), (0, max(-height % 4, 8 - height)), (0, max(-width % 4, 8 - width)), (0, 0)]
        return np.array(generator(convert2float(np.pad(some, sides, "reflect")), training=False))[:, :height, :width]

    return generate


def test_a_right_model_passes_and_its_differences_are_said(faithful, generator, pictures):
    seen = []
    model = translator(lambda some: seen.append(some.shape) or faithful(some) + np.float32(5e-4))
    words = network.check("model", model, generator, pictures)
    assert words == "differs from the checkpoint by 0.0005 at most and 0.0005 on average, of a range of 2"
    assert set(seen) == {(1, 32, 32, 3), (2, 17, 29, 3)}  # each picture by itself, and two of a size that has to be padded


def test_differences_are_of_all_pictures(faithful, generator, pictures):
    for last in (pictures[-1:], np.stack([pictures[0, :17, :29], pictures[-1, ::-1][:17, :29]])):
        model = translator(lambda some, last=last: faithful(some) + np.float32(0.5 * np.array_equal(some, last)))
        largest, mean, contrast = network.differences(model, generator, pictures)
        everything = 2 * 32 * 32 + 2 * 17 * 29
        assert largest == pytest.approx(0.5, rel=1e-4) and mean == pytest.approx(0.5 * last[..., 0].size / everything, rel=1e-4)
    right = np.concatenate([faithful(some).ravel() for some in (*pictures[:, None], last)])
    assert contrast == pytest.approx(np.abs(right - right.mean()).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("quantize", "error", "spread"), [(None, 1.1e-3, 1), ("float16", 0.021, 1), ("int8", 0.2, 1), (None, 1.1e-3, 9), ("float16", 0.021, 9)]
)
def test_too_large_a_difference_is_refused(faithful, generator, pictures, quantize, error, spread):
    """Of all pixels, or of a few."""

    def generate(some):
        right = faithful(some)
        right[:, ::spread] += np.float32(error)
        return right

    with pytest.raises(cli.Stopped, match="^red → blue: the model differs from the checkpoint by .* Nothing is left; use "):
        network.check("model", translator(generate, quantize=quantize), generator, pictures)


@pytest.mark.parametrize(("quantize", "error"), [("float16", 0.019), ("int8", 0.04)])
def test_fewer_bits_may_differ_more(faithful, generator, pictures, quantize, error):
    network.check("model", translator(lambda some: faithful(some) + np.float32(error), quantize=quantize), generator, pictures)


def test_what_is_rounded_has_to_be_what_was_compared(faithful, generator, pictures):
    """And numbers have to be finite."""
    other = translator(faithful, lambda some: np.minimum(network.to_int(faithful(some)).astype(int) + 2, 255).astype(np.uint8))
    broken = translator(lambda some: faithful(some) * np.float32(np.nan), lambda some: network.to_int(faithful(some)))
    for model in (other, broken):
        with pytest.raises(cli.Stopped, match="nan"):
            network.check("model", model, generator, pictures)


@pytest.mark.parametrize(("share", "kept"), [(0.9, True), (0.7, False)])
def test_with_int8_pictures_of_little_contrast_may_differ_less(faithful, generator, pictures, share, kept):
    """By a quarter of it."""
    weights = generator.get_weights()
    last = generator.layers[-2]
    last.kernel.assign(last.kernel * 0.05)
    last.bias.assign([0.0] * 3)
    model = translator(lambda some: faithful(some) * np.float32(share), quantize="int8")
    _, mean, contrast = network.differences(model, generator, pictures)
    try:
        assert mean < 0.05 and (mean < contrast / 4) == kept and mean < contrast
        if kept:
            network.check("model", model, generator, pictures)
        else:
            with pytest.raises(cli.Stopped, match="differs"):
                network.check("model", model, generator, pictures)
    finally:
        generator.set_weights(weights)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_flat_picture_is_never_within_what_int8_may_differ(pictures, scale):
    """However little the right picture varies. Flat: of the model nothing is left but the last bias."""
    keras.utils.set_random_seed(1)
    generator = Shallow(4)
    last = generator.layers[-2]
    last.kernel.assign(last.kernel * scale)
    last.bias.assign([0.2] * 3)
    flat = translator(lambda some: np.full(some.shape, np.tanh(0.2), np.float32), quantize="int8")
    assert network.differences(flat, generator, pictures)[1] > 0.05 or scale < 1
    with pytest.raises(cli.Stopped, match="differs from the checkpoint"):
        network.check("model", flat, generator, pictures)
