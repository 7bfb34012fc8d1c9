from __future__ import annotations

import itertools

import numpy as np
import pytest
from gradcheck import check_module
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from syncbn.nn import Conv2d

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def looped_correlation(x, weight, bias, stride, padding):
    (sh, sw), (ph, pw) = stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = weight.shape[2:]
    out_h, out_w = (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1
    y = np.empty((len(x), len(weight), out_h, out_w))
    for n, o, i, j in itertools.product(*map(range, y.shape)):
        y[n, o, i, j] = np.sum(x[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw] * weight[o]) + bias[o]
    return y


def random_layer(rng, *arguments, **options):
    layer = Conv2d(*arguments, rng=rng, dtype=np.float64, **options)
    if layer.bias is not None:
        layer.bias.data[:] = rng.standard_normal(layer.out_channels)
    return layer


@st.composite
def convolutions(draw):
    kernel, stride = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = [max(1, k - 2 * p) + draw(st.integers(0, 4)) for k, p in zip(kernel, padding, strict=True)]
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *size)
    return shape, draw(st.integers(1, 3)), kernel, stride, padding, draw(st.integers(0, 2**32 - 1))


@settings(max_examples=4 * settings.default.max_examples)
@given(convolutions())
def test_equals_loops_and_has_correct_gradients(convolution):
    shape, out_channels, kernel, stride, padding, seed = convolution
    rng = np.random.default_rng(seed)
    layer = random_layer(rng, shape[1], out_channels, kernel, stride, padding)
    x = rng.standard_normal(shape)
    y, _ = layer(x)
    expected = looped_correlation(x, layer.weight.data, layer.bias.data, stride, padding)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    check_module(layer, x, rng, directions=1)


def test_equals_scipy_on_a_typical_layer(rng):
    layer = random_layer(rng, 16, 8, 3, padding=1, bias=False)
    x = rng.standard_normal((2, 16, 9, 7))
    expected = [
        [sum(correlate(x[n, c], layer.weight.data[o, c], mode="same") for c in range(16)) for o in range(8)]
        for n in range(2)
    ]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), ((2, 3), (1, 2), (1, 0)), (2, 3, 0)]
)
def test_gradients(kernel, stride, padding, bias, rng):
    layer = random_layer(rng, 3, 4, kernel, stride, padding, bias)
    assert (layer.bias is not None) == bias
    check_module(layer, rng.standard_normal((2, 3, 6, 7)), rng)


@pytest.mark.parametrize("windows", [250, 25], ids=["two samples", "part of a sample"])
def test_several_blocks_equal_single_samples(windows, monkeypatch, rng):
    monkeypatch.setattr("syncbn.nn._correlate._BLOCK_BYTES", windows * 3 * 3 * 3 * 8)
    layer = random_layer(rng, 3, 4, 3, 2, 1)
    x = rng.standard_normal((7, 3, 20, 20))
    y, backward = layer(x)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)
    grads = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    for n in range(7):
        y_n, backward_n = layer(x[n : n + 1])
        np.testing.assert_allclose(y[n : n + 1], y_n, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(dx[n : n + 1], backward_n(dy[n : n + 1]), rtol=1e-12, atol=1e-12)
    for parameter, grad in zip(layer.parameters(), grads, strict=True):
        np.testing.assert_allclose(grad, parameter.grad, rtol=1e-11, atol=1e-11)


def test_bits_do_not_depend_on_the_alignment_of_arrays(monkeypatch, rng):
    layer = Conv2d(16, 16, 3, padding=1, rng=rng)
    x = rng.standard_normal((32, 16, 7, 7), dtype=np.float32)
    dy = rng.standard_normal((32, 16, 7, 7), dtype=np.float32)

    def bits(offset=0):
        memory = np.empty(x.size + 16, np.float32)[offset:]
        shifted = memory[: x.size].reshape(32, 7, 7, 16).transpose(0, 3, 1, 2)
        shifted[...] = x
        layer.zero_grad()
        y, backward = layer(shifted)
        return [array.tobytes() for array in (y, backward(dy), *(p.grad for p in layer.parameters()))]

    first = bits()
    assert all(bits(offset) == first for offset in range(1, 16))
    monkeypatch.setattr("syncbn.nn._correlate._BLOCK_BYTES", 40_000)
    assert bits() != first  # the control: sums in another order


@pytest.mark.parametrize("stride", [1, 2])
def test_memory_order_of_x_is_kept_and_changes_nothing(stride, rng):
    layer = random_layer(rng, 3, 4, 3, stride, 1)
    x = rng.standard_normal((2, 3, 6, 7))
    y, backward = layer(x)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)
    assert y.flags.c_contiguous
    assert dx.flags.c_contiguous
    for order in (channels_last, np.asfortranarray, lambda a: np.repeat(a, 2, axis=3)[..., ::2]):
        y_other, backward_other = layer(order(x))
        dx_other = backward_other(order(dy))
        np.testing.assert_allclose(y_other, y, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(dx_other, dx, rtol=1e-12, atol=1e-12)
        last = order is channels_last
        assert y_other.transpose(0, 2, 3, 1).flags.c_contiguous == last
        assert dx_other.transpose(0, 2, 3, 1).flags.c_contiguous == last


def test_one_channel_has_both_orders_and_gives_channels_last(rng):
    y, _ = random_layer(rng, 1, 4, 3)(rng.standard_normal((2, 1, 6, 7)))
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_read_only_input(rng):
    x = rng.standard_normal((2, 3, 6, 7))
    x.setflags(write=False)
    y, backward = random_layer(rng, 3, 4, 3)(x)
    y.setflags(write=False)
    assert backward(y).shape == x.shape


@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(x_dtype, dtype, rng):
    layer = Conv2d(2, 3, 3, rng=rng, dtype=dtype)
    x = rng.standard_normal((2, 2, 5, 5))
    y, backward = layer(x.astype(x_dtype))
    dx = backward(np.ones(y.shape))
    assert y.dtype == dx.dtype == x_dtype
    assert {p.data.dtype for p in layer.parameters()} == {p.grad.dtype for p in layer.parameters()} == {np.dtype(dtype)}
    expected = looped_correlation(x, layer.weight.data, layer.bias.data, (1, 1), (0, 0))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (3, 5, 5), (2, 5, 5, 3)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"Conv2d .*x.*\(N, 3, H, W\)"):
        Conv2d(3, 4, 3)(np.zeros(shape, np.float32))


def test_an_image_smaller_than_the_kernel():
    with pytest.raises(ValueError, match=r"Conv2d: .* 5 .* 2 pixels with padding 1, expected at least 3"):
        Conv2d(3, 4, 5, padding=1)(np.zeros((2, 3, 8, 2), np.float32))
    with pytest.raises(ValueError, match="0 pixels"):
        Conv2d(3, 4, 3, padding=2)(np.zeros((2, 3, 0, 8), np.float32))


def test_wrong_shape_of_the_gradient():
    _, backward = Conv2d(3, 4, 3)(np.zeros((2, 3, 5, 5), np.float32))
    with pytest.raises(ValueError, match=r"Conv2d .*dy.*\(2, 4, 3, 3\)"):
        backward(np.zeros((2, 4, 5, 5), np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4, 0), "kernel_size must be at least 1, got 0"),
        ((3, 4, 3, 0), "stride must be at least 1, got 0"),
        ((3, 4, 3, 1, -1), "padding must be at least 0, got -1"),
        ((3, 4, (3, 3, 3)), "kernel_size must be an integer or a pair"),
        ((0, 4, 3), "in_channels must be at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv2d(*arguments)
