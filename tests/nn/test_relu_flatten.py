from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_module

from syncbn.nn import Flatten, ReLU


def name_of(layer):
    return type(layer).__name__


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4, 5)])
def test_relu_gradients(shape, rng):
    x = rng.standard_normal(shape)
    check_module(ReLU(), x + np.copysign(0.1, x), rng)  # no values near 0


def test_relu_values_and_derivative_at_zero():
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf, -np.inf])
    y, backward = ReLU()(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 3, np.nan, np.inf, 0])
    np.testing.assert_array_equal(backward(np.full(7, 2.0)), [0, 0, 0, 2, 0, 2, 0])


def test_dx_is_zero_for_negative_x_and_any_gradient():
    x, dy = np.array([-1.0, -1.0, -1.0, 1.0]), np.array([np.inf, np.nan, -2.0, np.inf])
    dx = ReLU()(x)[1](dy)
    np.testing.assert_array_equal(dx, [0, 0, 0, np.inf])
    assert not np.signbit(dx).any()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5), (6,)])
def test_flatten_gradients(shape, rng):
    check_module(Flatten(), rng.standard_normal(shape), rng)


def test_flatten_is_in_c_order_for_every_memory_order(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    other = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = [list(sample.flat) for sample in x]
    np.testing.assert_array_equal(Flatten()(x)[0], expected)
    np.testing.assert_array_equal(Flatten()(other)[0], expected)


@pytest.mark.parametrize("layer", [ReLU(), Flatten()], ids=name_of)
def test_dtype_is_kept_and_others_raise(layer):
    for dtype in (np.float32, np.float64):
        y, backward = layer(np.ones((2, 3), dtype))
        assert y.dtype == backward(np.ones((2, 3))).dtype == dtype
    with pytest.raises(TypeError, match=f"{type(layer).__name__} .*int64"):
        layer(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"dy .*\(2, 3\).*\(3,\)"):
        backward(np.ones(3))


def test_flatten_needs_a_batch_axis():
    with pytest.raises(ValueError, match=r"\(N, ...\), got \(\)"):
        Flatten()(np.array(1.0))
