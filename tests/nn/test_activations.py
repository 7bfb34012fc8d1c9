from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_module

from syncbn.nn import Sigmoid, Tanh

LAYERS = {"sigmoid": Sigmoid(), "tanh": Tanh()}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4, 5)])
def test_gradients(layer, shape, rng):
    check_module(layer, rng.standard_normal(shape), rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_accurate_for_every_x(dtype):
    x = np.array([-700, -80, -20, -1, -0.0, 1e-8, 1, 20, 80, 700, -np.inf, np.inf, np.nan], dtype)
    y, _ = Sigmoid()(x)
    with np.errstate(over="ignore"):  # the float64 formula is accurate to a few ulps where it is finite
        expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    finite = expected > np.finfo(dtype).tiny  # 1e-305 is 0 in float32
    np.testing.assert_allclose(y[finite], expected[finite], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y[-3:], [0, 1, np.nan])
    assert (y[:-1] >= 0).all()


def test_tanh_values():
    y, _ = Tanh()(np.array([-np.inf, -1.0, 0.0, 1e-9, np.inf, np.nan]))
    np.testing.assert_array_equal(y, np.tanh([-np.inf, -1.0, 0.0, 1e-9, np.inf, np.nan]))


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_dtype_and_memory_order_are_kept_and_others_raise(layer, rng):
    for dtype in (np.float32, np.float64):
        x = np.moveaxis(rng.standard_normal((2, 4, 5, 3)).astype(dtype), -1, 1)
        y, backward = layer(x)
        dx = backward(np.ones_like(x))
        assert y.dtype == dx.dtype == dtype
        assert y.strides == x.strides
    with pytest.raises(TypeError, match=f"{type(layer).__name__} expects float32 or float64, got int64"):
        layer(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=rf"backward of {type(layer).__name__} expects dy of y's shape"):
        backward(np.ones(3))
