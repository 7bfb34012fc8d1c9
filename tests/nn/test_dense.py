from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_module

from syncbn.nn import Dense, glorot_uniform


@pytest.mark.parametrize("bias", [True, False])
def test_gradients(bias, rng):
    layer = Dense(5, 3, bias, rng=rng, dtype=np.float64)
    if bias:
        layer.bias.data[:] = rng.standard_normal(3)
    check_module(layer, rng.standard_normal((4, 5)), rng)


def test_output_is_the_affine_map(rng):
    layer = Dense(5, 3, rng=rng, dtype=np.float64)
    layer.bias.data[:] = rng.standard_normal(3)
    x = rng.standard_normal((4, 5))
    y, _ = layer(x)
    expected = [[sum(layer.weight.data[o] * sample) + layer.bias.data[o] for o in range(3)] for sample in x]
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_gradients_of_several_backwards_add_up(rng):
    layer = Dense(5, 3, rng=rng, dtype=np.float64)
    x, dy = rng.standard_normal((4, 5)), rng.standard_normal((4, 3))
    _, backward = layer(x)
    backward(dy)
    once = [parameter.grad.copy() for parameter in layer.parameters()]
    backward(dy)
    for parameter, grad in zip(layer.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * grad, rtol=1e-15)


@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(x_dtype, dtype, rng):
    layer = Dense(5, 3, rng=rng, dtype=dtype)
    y, backward = layer(rng.standard_normal((4, 5)).astype(x_dtype))
    dx = backward(np.ones((4, 3)))
    assert y.dtype == dx.dtype == x_dtype
    assert {p.data.dtype for p in layer.parameters()} == {p.grad.dtype for p in layer.parameters()} == {np.dtype(dtype)}


def test_same_rng_same_weights_and_init_is_used():
    first, second = (Dense(5, 3, init=glorot_uniform, rng=np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first.weight.data, second.weight.data)
    np.testing.assert_array_equal(first.weight.data, glorot_uniform((3, 5), np.random.default_rng(1)))
    assert not np.array_equal(Dense(5, 3).weight.data, Dense(5, 3).weight.data)


@pytest.mark.parametrize("shape", [(4, 6), (5,), (2, 2, 5), ()])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"Dense .*x.*\(N, 5\)") as error:
        Dense(5, 3)(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


def test_wrong_shape_of_the_gradient():
    _, backward = Dense(5, 3)(np.zeros((4, 5), np.float32))
    with pytest.raises(ValueError, match=r"Dense .*dy.*\(4, 3\).*\(1, 3\)"):
        backward(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("x", [np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.complex64), [[0.0] * 5]])
def test_wrong_types(x):
    with pytest.raises(TypeError, match="Dense expects"):
        Dense(5, 3)(x)


def test_bad_sizes():
    with pytest.raises(ValueError, match="in_features must be at least 1, got 0"):
        Dense(0, 3)
    with pytest.raises(TypeError, match=r"out_features must be an integer, got 3\.5"):
        Dense(5, 3.5)
    with pytest.raises(TypeError, match=r"bias must be True or False, got ndarray of shape \(3,\)"):
        Dense(5, 3, bias=np.zeros(3))
