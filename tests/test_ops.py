import keras
import numpy as np
import pytest
import tensorflow as tf

import ops

pytestmark = pytest.mark.usefixtures("float64")


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
    model = built(ops.c7s1_k(5, "instance"), 4)
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
    model = built(ops.dk(5, "instance"), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = np.maximum(normalize(convolve(frame(x, 1, "constant"), kernel, 2)), 0)
    assert expected.shape == (2, 4, 6, 5)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_Rk_adds_its_branch_to_its_input(x):
    model = built(ops.Rk(4, "instance"), 4)
    first, second = (c.kernel.numpy() for c in model.layers if isinstance(c, keras.layers.Conv2D))
    hidden = np.maximum(normalize(convolve(frame(x, 1, "reflect"), first, 1)), 0)
    expected = x + normalize(convolve(frame(hidden, 1, "reflect"), second, 1))
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_uk_transpose_is_aligned_with_the_symmetric_padding(x):
    """The transpose of a convolution that pads by 1 at top and left: input (i, j) writes around output (2i, 2j)."""
    model = built(ops.uk(5, "instance", "transpose"), 4)
    kernel = layer(model, keras.layers.Conv2DTranspose).kernel.numpy()  # (3, 3, out, in)
    batch, height, width, _ = x.shape
    canvas = np.zeros((batch, 2 * height + 2, 2 * width + 2, 5))  # one row and column more on each side
    for i in range(height):
        for j in range(width):
            canvas[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("bc,hwdc->bhwd", x[:, i, j], kernel)
    expected = np.maximum(normalize(canvas[:, 1:-1, 1:-1]), 0)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


def test_uk_resize_repeats_pixels_and_convolves(x):
    model = built(ops.uk(5, "instance", "resize"), 4)
    kernel = layer(model, keras.layers.Conv2D).kernel.numpy()
    expected = np.maximum(normalize(convolve(frame(x.repeat(2, 1).repeat(2, 2), 1, "reflect"), kernel, 1)), 0)
    np.testing.assert_allclose(model(x), expected, atol=1e-9)


@pytest.mark.parametrize("norm", [None, "instance"])
def test_Ck_is_leaky_and_has_a_bias_only_without_a_norm(x, norm):
    model = built(ops.Ck(5, norm), 4)
    convolution = layer(model, keras.layers.Conv2D)
    assert convolution.use_bias == (norm is None)
    hidden = convolve(frame(x, 1, "constant"), convolution.kernel.numpy(), 2)
    hidden = normalize(hidden) if norm else hidden
    np.testing.assert_allclose(model(x), np.where(hidden > 0, hidden, 0.2 * hidden), atol=1e-9)


def test_instance_norm_sees_one_picture_at_a_time_and_learns_scale_and_offset(x):
    norm = ops.normalization("instance")
    np.testing.assert_allclose(norm(x)[:1], norm(x[:1]), atol=1e-9)
    norm.gamma.assign([1, 2, 3, 4])
    norm.beta.assign([4, 3, 2, 1])
    np.testing.assert_allclose(norm(x), normalize(x) * [1, 2, 3, 4] + [4, 3, 2, 1], atol=1e-9)


def test_batch_norm_sees_the_batch(x):
    norm = ops.normalization("batch")
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(norm(x, training=True), expected, atol=1e-9)


def test_layers_start_from_their_own_small_normal_kernels():
    model = built(ops.Rk(64, "instance"), 64)
    first, second = (c.kernel.numpy() for c in model.layers if isinstance(c, keras.layers.Conv2D))
    assert not np.allclose(first, second)
    assert first.std() == pytest.approx(0.02, rel=0.02)
    assert abs(first.mean()) < 1e-3


@pytest.mark.parametrize("block", [lambda: ops.normalization("layer"), lambda: ops.uk(4, "instance", "bilinear")])
def test_unknown_kinds_are_refused(block):
    with pytest.raises(ValueError, match="use '"):
        block()


def test_reflection_padding_knows_its_shape():
    assert ops.ReflectionPadding2D(3)(tf.zeros((1, 8, 9, 2))).shape == (1, 14, 15, 2)
    assert ops.ReflectionPadding2D(3)(keras.Input((None, 9, 2))).shape == (None, None, 15, 2)
