from __future__ import annotations

import itertools

import numpy as np
import pytest
from gradcheck import check_module
from hypothesis import given, settings
from hypothesis import strategies as st

from syncbn.nn import AvgPool2d, GlobalAvgPool2d, MaxPool2d

PADDING_VALUE = {MaxPool2d: -np.inf, AvgPool2d: 0.0}
REDUCE = {MaxPool2d: np.max, AvgPool2d: np.mean}


def name_of(layer):
    return type(layer).__name__


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def distinct_values(rng, shape):
    return rng.permutation(np.prod(shape)).reshape(shape) / 7.0  # distinct, so that the maximum is differentiable


def looped_pooling(pool, x, kernel, stride, padding):
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=PADDING_VALUE[pool])
    y = np.empty((*x.shape[:2], (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1))
    for i, j in itertools.product(*map(range, y.shape[2:])):
        y[:, :, i, j] = REDUCE[pool](x[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw], axis=(2, 3))
    return y


@st.composite
def poolings(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [max(1, k - 2 * p) + draw(st.integers(0, 5)) for k, p in zip(kernel, padding, strict=True)]
    return (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size), kernel, stride, padding, draw(st.integers(0, 999))


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
@settings(max_examples=4 * settings.default.max_examples)
@given(poolings())
def test_equals_loops_and_has_correct_gradients(pool, pooling):
    shape, kernel, stride, padding, seed = pooling
    rng = np.random.default_rng(seed)
    layer, x = pool(kernel, stride, padding), distinct_values(rng, shape)
    y, _ = layer(x)
    expected = looped_pooling(pool, x, kernel, stride, padding)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)
    check_module(layer, x, rng, directions=1)


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
def test_default_stride_is_the_kernel(pool, rng):
    x = rng.standard_normal((2, 3, 7, 6))
    np.testing.assert_array_equal(pool((2, 3))(x)[0], pool((2, 3), (2, 3))(x)[0])
    assert pool((2, 3))(x)[0].shape == (2, 3, 3, 2)


@pytest.mark.parametrize("layer", [MaxPool2d(3, 2, 1), AvgPool2d(3, 2, 1), GlobalAvgPool2d()], ids=name_of)
def test_memory_order_and_dtype_of_x_are_kept(layer, rng):
    x = rng.standard_normal((2, 3, 6, 7)).astype(np.float32)
    y, backward = layer(x)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)
    y_last, backward_last = layer(channels_last(x))
    dx_last = backward_last(dy)
    assert {a.dtype for a in (y, dx, y_last, dx_last)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(y_last, y, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dx_last, dx, rtol=1e-6, atol=1e-7)
    assert dx.flags.c_contiguous
    assert channels_last(dx_last).strides == dx_last.strides
    if y.ndim == 4:
        assert channels_last(y_last).strides == y_last.strides


def test_the_first_of_equal_maxima_receives_the_gradient():
    _, backward = MaxPool2d(2)(np.zeros((1, 1, 2, 4)))
    np.testing.assert_array_equal(backward(np.array([[[[3.0, 5.0]]]])), [[[[3, 0, 5, 0], [0, 0, 0, 0]]]])


def test_only_the_maximum_receives_an_infinite_gradient():
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    dx = MaxPool2d(2)(x)[1](np.full((1, 1, 1, 1), np.inf))
    np.testing.assert_array_equal(dx, [[[[0, 0], [0, np.inf]]]])


def test_nan_is_the_maximum_and_padding_never_is():
    x = np.full((1, 1, 2, 4), -5.0)
    x[0, 0, 0, 1] = np.nan
    y, backward = MaxPool2d(2)(x)
    np.testing.assert_array_equal(y, [[[[np.nan, -5.0]]]])
    np.testing.assert_array_equal(backward(np.ones_like(y)), [[[[0, 1, 1, 0], [0, 0, 0, 0]]]])
    np.testing.assert_array_equal(MaxPool2d(3, 4, 1)(np.full((1, 1, 2, 2), -5.0))[0], [[[[-5.0]]]])


def test_global_average_gradients(rng):
    check_module(GlobalAvgPool2d(), rng.standard_normal((2, 3, 4, 5)), rng)


def test_global_average_is_the_mean_of_all_pixels(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    expected = [[sum(x[n, c].ravel()) / 20 for c in range(3)] for n in range(2)]
    np.testing.assert_allclose(GlobalAvgPool2d()(x)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("layer", [MaxPool2d(2), AvgPool2d(2), GlobalAvgPool2d()], ids=name_of)
def test_wrong_shapes(layer):
    with pytest.raises(ValueError, match=rf"{type(layer).__name__} .*x.*\(N, C, H, W\).*\(3, 4, 5\)"):
        layer(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="pixel"):
        layer(np.zeros((3, 4, 5, 0)))
    y, backward = layer(np.zeros((3, 4, 5, 6)))
    with pytest.raises(ValueError, match="dy"):
        backward(y[:1])


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
def test_bad_arguments(pool):
    with pytest.raises(ValueError, match=r"padding \(2, 0\) .*kernel_size \(3, 3\)"):
        pool(3, 1, (2, 0))
    with pytest.raises(ValueError, match="stride must be at least 1"):
        pool(3, 0)
