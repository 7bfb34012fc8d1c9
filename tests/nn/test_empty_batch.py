from __future__ import annotations

import numpy as np
import pytest

from syncbn.layers import BatchNorm
from syncbn.nn import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    ResidualBlock,
    Sequential,
    Sigmoid,
    Tanh,
    mean_squared_error,
    softmax_cross_entropy,
)

LAYERS = [
    (Dense(5, 3), (5,), (3,)),
    (ReLU(), (5,), (5,)),
    (Sigmoid(), (5,), (5,)),
    (Tanh(), (5,), (5,)),
    (Dropout(), (5,), (5,)),
    (Flatten(), (3, 6, 7), (126,)),
    (Conv2d(3, 4, 3, 2, 1), (3, 6, 7), (4, 3, 4)),
    (Conv2d(3, 4, 1, 2, 0), (3, 6, 7), (4, 3, 4)),
    (MaxPool2d(2), (3, 6, 7), (3, 3, 3)),
    (AvgPool2d(3, 1, 1), (3, 6, 7), (3, 6, 7)),
    (GlobalAvgPool2d(), (3, 6, 7), (3,)),
    (ResidualBlock(3, 4, 2, BatchNorm), (3, 6, 7), (4, 3, 4)),
    (Sequential(Conv2d(3, 4, 3), BatchNorm(4), ReLU(), MaxPool2d(2), Flatten(), Dense(16, 2)), (3, 6, 7), (2,)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("layer", "shape", "out"), LAYERS, ids=[type(layer).__name__ for layer, _, _ in LAYERS])
def test_forward_and_backward_without_samples(layer, shape, out, dtype):
    y, backward = layer(np.zeros((0, *shape), dtype))
    assert y.shape == (0, *out)
    layer.zero_grad()
    dx = backward(np.zeros(y.shape, dtype))
    assert dx.shape == (0, *shape)
    assert y.dtype == dx.dtype == dtype
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        np.testing.assert_array_equal(parameter.grad, np.zeros(parameter.data.shape), name)


@pytest.mark.parametrize("normalizer", [None, 8])
def test_loss_of_no_samples_is_zero(normalizer):
    loss, dlogits = softmax_cross_entropy(np.zeros((0, 5), np.float32), np.zeros(0, np.int64), normalizer)
    assert loss == 0.0
    assert dlogits.shape == (0, 5)
    loss, dy = mean_squared_error(np.zeros((0, 5), np.float32), np.zeros((0, 5)), normalizer)
    assert loss == 0.0
    assert dy.shape == (0, 5)
    assert dlogits.dtype == np.float32
