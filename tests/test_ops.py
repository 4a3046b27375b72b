import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import ops
from generator import seed_dropout
from networks import convolution, layers
from system.devices import number_type
from system.workers import connect

pytestmark = pytest.mark.usefixtures("float64")

INSTANCE, BATCH = (functools.partial(ops.normalization, kind) for kind in ("instance", "batch"))


def built(block, channels: int) -> keras.Model:
    x = keras.Input((None, None, channels))
    return keras.Model(x, block(x))


def layer(model: keras.Model, kind: type) -> keras.layers.Layer:
    return next(found for found in model.layers if isinstance(found, kind))


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A valid convolution, written as the sum it is."""
    size = kernel.shape[0]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.einsum("bhwc,hwcd->bd", window, kernel)
    return out


def normalize(x: np.ndarray) -> np.ndarray:
    return (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


def frame(x: np.ndarray, pad: int, mode: str) -> np.ndarray:
    return np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 8, 12, 4))


def test_c7s1_k_is_reflection_padding_convolution_norm_relu(x):
    model = built(ops.c7s1_k(5, INSTANCE), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = np.maximum(normalize(convolve(frame(x, 3, "reflect"), kernel, 1)), 0)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_c7s1_3_ends_in_tanh_and_has_a_bias(x):
    model = built(ops.c7s1_3(), 4)
    convolution = layer(model, keras.layers.Conv2D)
    convolution.bias.assign([0.1, -0.2, 0.3])
    expected = np.tanh(convolve(frame(x, 3, "reflect"), convolution.kernel.numpy(), 1) + convolution.bias.numpy())
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_dk_pads_symmetrically(x):
    model = built(ops.dk(5, INSTANCE), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = np.maximum(normalize(convolve(frame(x, 1, "constant"), kernel, 2)), 0)
    assert expected.shape == (2, 4, 6, 5)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_Rk_adds_its_branch_to_its_input(x):
    model = built(ops.Rk(4, INSTANCE), 4)
    first, second = (c.kernel.numpy() for c in model.layers if isinstance(c, keras.layers.Conv2D))
    hidden = np.maximum(normalize(convolve(frame(x, 1, "reflect"), first, 1)), 0)
    expected = x + normalize(convolve(frame(hidden, 1, "reflect"), second, 1))
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_uk_transpose_is_aligned_with_the_symmetric_padding(x):
    model = built(ops.uk(5, INSTANCE, "transpose"), 4)
    kernel = layer(model, keras.layers.Conv2DTranspose).kernel.numpy()  # (3, 3, out, in)
    np.testing.assert_allclose(model(x), np.maximum(normalize(transposed(x, kernel)), 0), atol=1e-9)


def test_uk_resize_repeats_pixels_and_convolves(x):
    model = built(ops.uk(5, INSTANCE, "resize"), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = np.maximum(normalize(convolve(frame(x.repeat(2, 1).repeat(2, 2), 1, "reflect"), kernel, 1)), 0)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


@pytest.mark.parametrize("norm", [None, INSTANCE])
def test_Ck_is_leaky_and_has_a_bias_only_without_a_norm(x, norm):
    model = built(ops.Ck(5, norm), 4)
    convolution = layer(model, keras.layers.Conv2D)
    assert convolution.use_bias == (norm is None)
    hidden = convolve(frame(x, 1, "constant"), convolution.kernel.numpy(), 2)
    np.testing.assert_allclose(model(x), leaky(normalize(hidden) if norm else hidden), atol=1e-9)


def transposed(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The transpose of a convolution with stride 2 that pads by 1, written as the sum it is: pixel (i, j) writes around (2i, 2j)."""
    (batch, height, width, _), (size, _, filters, _) = x.shape, kernel.shape
    canvas = np.zeros((batch, 2 * height + 2, 2 * width + 2, filters))  # one row and column more on each side
    for i in range(height):
        for j in range(width):
            canvas[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += np.einsum("bc,hwdc->bhwd", x[:, i, j], kernel)
    return canvas[:, 1:-1, 1:-1]


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize(("first", "norm", "bias"), [(True, None, True), (False, INSTANCE, False), (False, None, False)])
def test_a_unets_step_down_is_leaky_relu_convolution_norm(x, first, norm, bias):
    model = built(ops.down(5, norm, first, bias), 4)
    convolution = layer(model, keras.layers.Conv2D)
    assert convolution.use_bias == bias and convolution.kernel_initializer.stddev == 0.02
    if bias:
        convolution.bias.assign([0.1, 0.2, 0.3, 0.4, 0.5])
    expected = convolve(frame(x if first else leaky(x), 1, "constant"), convolution.kernel.numpy(), 2)
    expected = (normalize(expected) if norm else expected) + (convolution.bias.numpy() if bias else 0)
    assert expected.shape == (2, 4, 6, 5)
    np.testing.assert_allclose(model(x), expected, atol=1e-7)  # TensorFlow knows the 0.2 in float32 only


def test_a_unets_step_up_is_relu_transposed_convolution_norm(x):
    model = built(ops.up(5, INSTANCE, "transpose"), 4)
    kernel = layer(model, keras.layers.Conv2DTranspose).kernel.numpy()
    assert kernel.shape == (4, 4, 5, 4)
    np.testing.assert_allclose(model(x), normalize(transposed(np.maximum(x, 0), kernel)), atol=1e-9)


def test_a_unets_step_up_by_resizing(x):
    model = built(ops.up(5, INSTANCE, "resize"), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = convolve(frame(np.maximum(x, 0).repeat(2, 1).repeat(2, 2), 1, "reflect"), kernel, 1)
    np.testing.assert_allclose(model(x), normalize(expected), atol=1e-9)


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_a_unets_last_step_up_has_a_bias_and_tanh(x, upsample):
    model = built(ops.up_3(upsample), 4)
    last = model.layers[-2]
    last.bias.assign([0.1, -0.2, 0.3])
    kernel, positive = last.kernel.numpy(), np.maximum(x, 0)
    repeated = frame(positive.repeat(2, 1).repeat(2, 2), 1, "reflect")
    plain = transposed(positive, kernel) if upsample == "transpose" else convolve(repeated, kernel, 1)
    np.testing.assert_allclose(model(x), np.tanh(plain + last.bias.numpy()), atol=1e-9)


@pytest.mark.parametrize("norm", [None, INSTANCE])
def test_C1x1_sees_each_pixel_by_itself(x, norm):
    model = built(ops.C1x1(5, norm), 4)
    convolution = layer(model, keras.layers.Conv2D)
    assert convolution.use_bias == (norm is None)
    hidden = x @ convolution.kernel.numpy()[0, 0]
    np.testing.assert_allclose(model(x), leaky(normalize(hidden) if norm else hidden), atol=1e-9)


def test_pixel_logits_are_a_matrix_with_a_bias_and_nothing_more(x):
    model = built(ops.pixel_logits(), 4)
    convolution = layer(model, keras.layers.Conv2D)
    convolution.bias.assign([-0.1])
    expected = x @ convolution.kernel.numpy()[0, 0] - 0.1
    assert expected.min() < -0.1
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_patch_logits_are_a_convolution_with_a_bias_and_nothing_more(x):
    model = built(ops.patch_logits(), 4)
    convolution = layer(model, keras.layers.Conv2D)
    convolution.bias.assign([0.1])
    expected = convolve(frame(x, 1, "constant"), convolution.kernel.numpy(), 1) + 0.1
    assert expected.min() < -0.1
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_Ck_with_stride_1_loses_a_row_and_a_column(x):
    model = built(ops.Ck(5, BATCH, strides=1), 4)
    hidden = convolve(frame(x, 1, "constant"), layer(model, keras.layers.Conv2D).kernel.numpy(), 1)
    hidden = (hidden - hidden.mean((0, 1, 2))) / np.sqrt(hidden.var((0, 1, 2)) + 1e-5)
    assert hidden.shape == (2, 7, 11, 5)
    np.testing.assert_allclose(model(x, training=True), leaky(hidden), atol=1e-9)


def test_batch_norm_remembers_a_tenth_of_each_batch(x):
    norm = ops.normalization("batch")
    norm(x, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * x.mean((0, 1, 2)), atol=1e-9)


def test_instance_norm_sees_one_picture_at_a_time_and_learns_scale_and_offset(x):
    norm = ops.normalization("instance")
    np.testing.assert_allclose(norm(x)[:1], norm(x[:1]), atol=1e-9)
    norm.gamma.assign([1, 2, 3, 4])
    norm.beta.assign([4, 3, 2, 1])
    np.testing.assert_allclose(norm(x), normalize(x) * [1, 2, 3, 4] + [4, 3, 2, 1], atol=1e-9)


def test_batch_norm_of_a_batch_of_one_is_of_the_picture_once_it_is_trained_too(x):
    x = x[:1]
    found, batch = ops.normalization("picture"), ops.normalization("batch")
    np.testing.assert_allclose(found(x, training=False), found(x, training=True), atol=1e-9)
    np.testing.assert_allclose(found(x), batch(x, training=True), atol=1e-9)
    assert np.abs(batch(x, training=False) - found(x)).max() > 0.1


@pytest.mark.parametrize("kind", ["instance", "batch", "picture"])
def test_a_norm_learns_scale_and_offset_or_does_not(x, kind):
    for affine in (True, False):
        norm = ops.normalization(kind, affine)
        norm(x)
        assert [w.name for w in norm.trainable_weights] == ["gamma", "beta"] * affine
        assert {"gamma", "beta"} <= {w.name for w in norm.weights}
        assert np.all(norm.gamma == 1) and np.all(norm.beta == 0)


def test_no_norm_is_nothing(x):
    assert ops.normalization("none")(x) is x


def test_batch_norm_sees_the_batch(x):
    norm = ops.normalization("batch")
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(norm(x, training=True), expected, atol=1e-9)


def test_layers_start_from_their_own_small_normal_kernels():
    model = built(ops.Rk(64, INSTANCE), 64)
    first, second = (c.kernel.numpy() for c in model.layers if isinstance(c, keras.layers.Conv2D))
    assert not np.allclose(first, second)
    assert first.std() == pytest.approx(0.02, rel=0.02)
    assert abs(first.mean()) < 1e-3


@pytest.mark.parametrize("block", [lambda: ops.normalization("layer"), lambda: ops.uk(4, INSTANCE, "bilinear")])
def test_unknown_kinds_are_refused(block):
    with pytest.raises(ValueError, match="use '"):
        block()


# --- dropout


@pytest.fixture
def step() -> tf.Variable:
    return tf.Variable(5, dtype=tf.int64)


@pytest.fixture
def dropping(step) -> layers.Dropout:
    model = built(layers.Dropout(), 9)
    seed_dropout([model], 0, step)
    return model.layers[-1]


def test_dropout_leaves_half_of_the_values_and_doubles_them(dropping):
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 20, 20, 9)))
    y = dropping(x, training=True).numpy()
    assert np.all((y == 0) | (y == 2 * x)) and (y == 0).mean() == pytest.approx(0.5, abs=0.02)
    for axes in ((0, 2, 3), (0, 1, 3), (0, 1, 2)):  # everywhere
        assert np.abs((y == 0).mean(axes) - 0.5).max() < 0.1
    assert dropping(x, training=False) is x and dropping(x) is x


def test_what_is_dropped_depends_on_the_step_and_the_number_of_the_picture(dropping, step):
    """Traced or not, and compiled, too."""
    x = tf.ones((2, 8, 8, 9))
    runs = [dropping, tf.function(dropping), tf.function(dropping, jit_compile=True)]
    seen = []
    for now in (5, 6, 1 << 40, 5):
        step.assign(now)
        found, *others = (run(x, training=True).numpy() for run in runs)
        for other in others:
            np.testing.assert_array_equal(found, other)
        seen += [picture.tobytes() for picture in found]
    assert len(set(seen)) == 6 and seen[:2] == seen[-2:]


def test_replicas_drop_what_one_device_drops_of_the_same_pictures():
    x, two = tf.ones((4, 8, 8, 9)), connect("mirrored").strategy
    found = []
    for strategy in (tf.distribute.get_strategy(), two):
        with strategy.scope():
            model, step = built(layers.Dropout(), 9), tf.Variable(5, dtype=tf.int64)
            seed_dropout([model], 3, step)
        rows = len(x) // strategy.num_replicas_in_sync
        parts = strategy.experimental_distribute_values_from_function(
            lambda replica, rows=rows: x[replica.replica_id_in_sync_group * rows :][:rows]
        )
        kept = strategy.run(lambda part, model=model: model(part, training=True), (parts,))
        found.append(np.concatenate(strategy.experimental_local_results(kept)))
    np.testing.assert_array_equal(*found)


# --- every fast path against the plain one


# How far values may be off, as a share of the largest; gradients twice as far. In bfloat16 the inputs, the weights and the gradient that
# comes in are exact: what is off are the layer's own roundings, 2⁻⁹ of each partial sum; a wrong border in a picture this small is more.
TOLERANCES = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 2**-6}
EACH_NUMBER = pytest.mark.parametrize("number", TOLERANCES)


def computing_in(number: str, kind: type, *args, **kwargs) -> keras.layers.Layer:
    if number == "bfloat16":
        with number_type(number):
            return kind(*args, **kwargs)
    return kind(*args, **kwargs, dtype=number)


def short(*shape: int) -> tf.Tensor:
    """Random float64 values that every number type holds exactly."""
    return tf.cast(tf.cast(np.random.default_rng(len(shape)).normal(size=shape), tf.bfloat16), tf.float64)


def assert_same(layer: keras.layers.Layer, plain, number: str, *inputs: tf.Tensor) -> None:
    """`layer` has the values and the gradients, of its input and of all its weights, that `plain(x, *weights)` has in float64."""
    layer.build(inputs[0].shape)
    weights = [short(*w.shape) for w in layer.trainable_variables]
    for variable, weight in zip(layer.trainable_variables, weights, strict=True):
        variable.assign(weight)

    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return [y, *tape.gradient(y, [x, *(w.value for w in layer.trainable_variables)], tf.cast(dy, y.dtype))]

    names = ["output", "input", *(w.name for w in layer.trainable_variables)]
    # Custom gradients take other ways in a graph, where sizes may be known or not.
    unknown = [tf.TensorSpec((None, None, None, inputs[0].shape[-1]), number), tf.TensorSpec((None, None, None, None), tf.float64)]
    traced = tf.function(step, input_signature=None if number == "float64" else unknown)
    for x in inputs:
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y = plain(x, *weights)
        dy = short(*y.shape)
        expected = [y, *tape.gradient(y, [x, *weights], dy)]
        for run in (step, traced):
            found = run(tf.cast(x, number), dy)
            assert found[0].dtype == found[1].dtype == number
            for name, ours, right in zip(names, found, expected, strict=True):
                assert ours.shape == right.shape, name
                error = tf.reduce_max(tf.abs(tf.cast(ours, tf.float64) - right)) / tf.reduce_max(tf.abs(right))
                assert error < TOLERANCES[number] * (1 if name == "output" else 2), name
        assert layer.compute_output_shape(x.shape) == tuple(y.shape)


def padded_convolution(pad: int, reflect: bool, strides: int = 1):
    def plain(x, kernel, bias=0.0):
        sides = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
        return tf.nn.conv2d(tf.pad(x, sides, "REFLECT" if reflect else "CONSTANT"), kernel, strides, "VALID") + bias

    return plain


@EACH_NUMBER
@pytest.mark.parametrize(("kernel", "pad"), [(3, 1), (4, 1), (7, 3)])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("reflect", [False, True])
def test_a_convolution_pads_symmetrically(number, kernel, pad, strides, reflect):
    inputs = [short(1, 7, 9, 2), short(2, 8, 5, 2)]
    for bias, some in ((True, inputs[:1]), (False, inputs[1:])) if number == "float64" else ((True, inputs),):
        layer = computing_in(number, layers.Convolution, 3, kernel, strides, pad=pad, reflect=reflect, use_bias=bias)
        assert_same(layer, padded_convolution(pad, reflect, strides), number, *some)


@EACH_NUMBER
@pytest.mark.parametrize(("filters", "kernel", "pad", "reflect"), [(3, 7, 3, True), (1, 4, 1, False)])
def test_few_filters_are_the_plain_convolution(number, filters, kernel, pad, reflect):
    layer = computing_in(number, layers.FewFilters, filters, kernel, pad=pad, reflect=reflect)
    assert_same(layer, padded_convolution(pad, reflect), number, short(1, 7, 9, 2), short(2, 8, 5, 2))


@EACH_NUMBER
@pytest.mark.parametrize(("size", "bias"), [(3, False), (4, True)])
def test_an_upconvolution_is_the_transposed_one_without_what_comes_first(number, size, bias):
    """Its first row and column, and of a 4×4 kernel the last ones, too."""

    def plain(x, kernel, bias=0.0):
        batch, height, width, _ = x.shape
        whole = tf.nn.conv2d_transpose(x, kernel, (batch, 2 * height + size - 2, 2 * width + size - 2, kernel.shape[2]), 2, "VALID")
        return whole[:, 1 : 2 * height + 1, 1 : 2 * width + 1] + bias

    layer = computing_in(number, layers.Upconvolution, 3, size, 2, use_bias=bias)
    assert_same(layer, plain, number, short(1, 5, 4, 2), short(2, 3, 6, 2))


@EACH_NUMBER
def test_a_resize_convolution_is_one_of_the_picture_with_its_pixels_repeated(number):
    def plain(x, kernel, bias):
        larger = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
        return tf.nn.conv2d(tf.pad(larger, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), kernel, 1, "VALID") + bias

    layer = computing_in(number, layers.ResizeConvolution, 3, 3)
    assert_same(layer, plain, number, short(1, 5, 4, 2), short(2, 3, 6, 2))


def instance_norm(x, gamma, beta):
    mean, variance = tf.nn.moments(x, (1, 2), keepdims=True)
    return (x - mean) / tf.sqrt(variance + 1e-5) * gamma + beta


def group_norm(x, gamma, beta):
    layer = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, dtype="float64")
    layer.build(x.shape)
    return layer.stateless_call([gamma, beta], [], x)[0]


@EACH_NUMBER
@pytest.mark.parametrize("batch", [1, 3])  # of one: the fused kernel
@pytest.mark.parametrize("plain", [instance_norm, group_norm])
def test_instance_norm_is_the_formula(number, batch, plain):
    x = short(batch, 5, 7, 4) * [1 / 256, 1, 1, 1]  # where the variance is small, epsilon counts
    assert_same(computing_in(number, layers.InstanceNormalization), plain, number, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Convolution(3, 3, 2, pad=1),
        lambda: layers.Convolution(3, 7, pad=3, reflect=True),
        lambda: layers.FewFilters(3, 7, pad=3, reflect=True),
        lambda: layers.ResizeConvolution(3, 3),
    ],
)
def test_without_training_values_are_the_same_and_a_graph_holds_no_gradients_of_ours(x, make):
    layer = make()
    np.testing.assert_array_equal(layer(x, training=False), layer(x, training=True))
    for training in (False, True, None):
        graph = tf.function(lambda x, training=training: layer(x, training=training)).get_concrete_function(tf.constant(x)).graph
        ours = [node for node in graph.as_graph_def().node if "_gradient_op_type" in node.attr]
        assert bool(ours) == (training is not False)


def test_reflection_is_computed_again_in_the_backward_pass():
    """Otherwise the padded picture would be kept until then."""
    layer = layers.Convolution(2, 3, pad=1, reflect=True)
    layer.build((1, 8, 8, 3))

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, layer.kernel.value)

    operations = gradient.get_concrete_function(tf.zeros((1, 8, 8, 3), tf.float64)).graph.get_operations()
    assert [op.type for op in operations].count("GatherV2") == 4  # rows and columns, twice
    # The second time it is of a copy that waits for something: what waits for nothing TensorFlow would take for the first one.
    picked = [op.inputs[0].op for op in operations if op.type == "GatherV2"]
    assert [bool(op.control_inputs) for op in picked if op.type in ("Placeholder", "Identity")] == [False, True]


@pytest.mark.parametrize(("number", "gpus"), [*((number, []) for number in TOLERANCES), ("float32", ["a GPU"])])
@pytest.mark.parametrize(
    ("pad", "mode", "size", "strides", "products"),
    [
        (1, "REFLECT", (3, 3), 1, 9),
        (0, "CONSTANT", (2, 5), 1, 10),
        (1, "EDGE", (2, 2), 1, 4),
        (1, "CONSTANT", (4, 4), 2, 4),  # of pictures with four times the channels
        (1, "CONSTANT", (3, 3), 2, 0),  # cannot be divided
    ],
)
def test_gradients_of_kernels_with_many_channels(monkeypatch, number, pad, mode, size, strides, products, gpus):
    """On a CPU they are matrix products, on a GPU what the device has for them."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus)
    sides, kernel = [(n + 2 * pad - k) // strides + 1 for n, k in zip((7, 6), size, strict=True)], short(*size, 16, 3)
    cases = [(short(batch, 7, 6, 16), kernel, short(batch, *sides, 3)) for batch in (1, 2)]

    def step(convolve, x, kernel, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = convolve(x, kernel)
        return [y, *tape.gradient(y, [x, kernel], dy)]

    def plain(x, kernel):
        sides = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
        return tf.nn.conv2d(tf.pad(x, sides, {"EDGE": "SYMMETRIC"}.get(mode, mode)), kernel, strides, "VALID")

    ours = tf.function(
        lambda x, kernel, dy: step(functools.partial(convolution.convolve, strides=strides, pad=pad, mode=mode), x, kernel, dy)
    )
    runs = [(case, [tf.TensorSpec(value.shape, number) for value in case]) for case in cases if number != "bfloat16" and not gpus]
    if number != "float64":
        unknown = [tf.TensorSpec(shape, number) for shape in ((None, None, None, 16), kernel.shape, (None, None, None, 3))]
        runs += [(case, unknown) for case in cases]
    for case, signature in runs:
        traced = ours.get_concrete_function(*signature)
        for found, right in zip(traced(*(tf.cast(value, number) for value in case)), step(plain, *case), strict=True):
            error = tf.reduce_max(tf.abs(tf.cast(found, tf.float64) - right)) / tf.reduce_max(tf.abs(right))
            assert error < 2 * TOLERANCES[number]
        kinds = [op.type for op in traced.graph.get_operations()]
        assert (kinds.count("MatMul"), kinds.count("Conv2DBackpropFilter")) == ((0, 1) if gpus or not products else (products, 0))


@pytest.mark.parametrize(
    ("layer", "height", "width"),
    [
        (lambda: layers.Convolution(5, 4, 2, pad=1), 4, None),
        (lambda: layers.Convolution(5, 7, pad=3, reflect=True), 9, None),
        (lambda: layers.FewFilters(5, 4, pad=1), 8, None),
        (lambda: layers.Upconvolution(5, 3, 2), 18, None),
        (lambda: layers.Upconvolution(5, 4, 2), 18, None),
        (lambda: layers.ResizeConvolution(5, 3), 18, None),
    ],
)
def test_sizes_are_known_as_far_as_the_inputs_are(layer, height, width):
    layer = layer()
    assert layer.compute_output_shape((None, 9, None, 2)) == (None, height, width, 5)
    assert layer(keras.Input((9, None, 2))).shape == (None, height, width, 5)
    assert layer(keras.Input((None, None, 2))).shape == (None, None, None, 5)
    assert layer(tf.zeros((1, 9, 9, 2))).shape == (1, height, height, 5)


def test_instance_norm_keeps_the_shape():
    assert layers.InstanceNormalization()(keras.Input((9, None, 2))).shape == (None, 9, None, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Convolution(3, 7, pad=3, reflect=True),
        lambda: layers.FewFilters(3, 7, pad=3, reflect=True),
        lambda: layers.ResizeConvolution(3, 3),
    ],
)
def test_a_convolution_survives_its_config(x, make):
    layer = make()
    y = layer(x)
    copy = type(layer).from_config(layer.get_config())
    copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    assert np.array_equal(copy(x), y)
