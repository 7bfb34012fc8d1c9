"""Parameters: arrays for NumPy, and changes between a forward and its backward."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Parameter,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.nn import SGD, Adam, Conv2d, Dense, ResidualBlock, Sequential

LAYERS = {
    "BatchNorm": lambda: BatchNorm(3),
    "BatchNorm, weight alone": lambda: BatchNorm(3, bias=False),
    "BatchNorm, bias alone": lambda: BatchNorm(3, weight=False),
    "BatchNorm in evaluation": lambda: BatchNorm(3).eval(),
    "SyncBatchNorm": lambda: SyncBatchNorm(3, comm=SerialComm()),
    "GroupNorm": lambda: GroupNorm(1, 3),
    "LayerNorm": lambda: LayerNorm((2, 2)),
    "InstanceNorm": lambda: InstanceNorm(3, affine=True),
    "RMSNorm": lambda: RMSNorm((2, 2)),
    "Dense": lambda: Dense(2, 2),
    "Conv2d": lambda: Conv2d(3, 2, 1),
    "WeightNorm": lambda: WeightNorm(Conv2d(3, 2, 1)),
    "WeightNorm of Dense": lambda: WeightNorm(Dense(2, 2, bias=False)),
    "ResidualBlock": lambda: ResidualBlock(3, 4, norm=BatchNorm),
    "Sequential": lambda: Sequential(Conv2d(3, 3, 1), BatchNorm(3)),
}


def forward(layer, rng):
    dense = isinstance(layer, Dense) or isinstance(getattr(layer, "module", None), Dense)
    return layer(rng.standard_normal((4, 2) if dense else (4, 3, 2, 2)))


def step(layer, optimizer):
    for parameter in layer.parameters():
        parameter.grad = np.ones_like(parameter.data)
    optimizer(list(layer.parameters())).step()


CHANGES = {
    "SGD": lambda layer: step(layer, lambda p: SGD(p, 0.1)),
    "Adam": lambda layer: step(layer, Adam),
    "one parameter": lambda layer: step(layer, lambda p: SGD(p[-1:], 0.1)),
    "load_state_dict": lambda layer: layer.load_state_dict(layer.state_dict()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_a_change_between_forward_and_backward_raises(build, change, rng):
    layer = build()
    y, backward = forward(layer, rng)
    backward(y)
    backward(y)
    change(layer)
    with pytest.raises(RuntimeError, match=r"parameters of .* have changed since the forward"):
        backward(y)
    y, backward = forward(layer, rng)
    backward(y)


def test_parameters_without_gradient_do_not_change(rng):
    layer = Dense(2, 2)
    y, backward = forward(layer, rng)
    other = Parameter(np.ones(2, np.float32))
    other.grad = np.ones(2, np.float32)
    SGD([*layer.parameters(), other], 0.1).step()
    backward(y)
    assert layer.weight.version == 0


def test_two_forwards_before_their_backwards(rng):
    """A layer that is used twice, whose weight is computed anew in each forward."""
    layer = WeightNorm(Dense(2, 2))
    x, dy = rng.standard_normal((2, 4, 2))
    (_, first), (_, second) = layer(x), layer(x)
    np.testing.assert_array_equal(second(dy), first(dy))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_parameter_is_an_array_for_numpy(dtype):
    parameter = Parameter(np.arange(3, dtype=dtype))
    assert np.asarray(parameter) is parameter.data or np.shares_memory(np.asarray(parameter), parameter.data)
    assert np.asarray(parameter).dtype == dtype
    assert not np.shares_memory(np.array(parameter), parameter.data)
    assert np.asarray(parameter, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.multiply(parameter, 2), [0, 2, 4])


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_norm_of_zeros_starts_equal_and_trains(axis, dtype, rng):
    dense = Dense(3, 3, dtype=dtype)
    dense.weight.data[...] = 0 if axis is None else dense.weight.data
    if axis is not None:
        dense.weight.data[(slice(None),) * axis + (1,)] = 0
    x = rng.standard_normal((4, 3)).astype(dtype)
    expected = dense(x)[0]
    layer = WeightNorm(dense, axis=axis)
    y, backward = layer(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    backward(np.ones_like(y))
    assert np.isfinite(layer.v.grad).all()
    assert np.all(layer.g.grad != 0)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_weight_norm_of_values_whose_squares_leave_float64(scale):
    dense = Dense(3, 2, dtype=np.float64)
    dense.weight.data *= scale
    x = np.eye(3)
    expected = dense(x)[0]
    np.testing.assert_allclose(WeightNorm(dense)(x)[0], expected, rtol=1e-14)


def test_a_parameter_does_not_become_an_array():
    layer = BatchNorm(3)
    weight = layer.weight
    with pytest.raises(TypeError, match=r"BatchNorm\.weight is a parameter and cannot become ndarray: .*weight\.data"):
        layer.weight = np.ones(3, np.float32)
    assert layer.weight is weight
    layer.weight = Parameter(np.full(3, 2.0, np.float32))
    assert next(layer.own_parameters())[1].data[0] == 2
    layer.weight = None
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1.0, 2.0], "data must be a NumPy array, got list"),
        (np.ones(2, int), "data must have a floating dtype, got int64"),
        (np.ma.masked_array([1.0, 2.0]), "masked"),
    ],
)
def test_a_value_that_is_assigned_is_checked(value, text):
    parameter = BatchNorm(2).weight
    with pytest.raises(TypeError, match=text):
        parameter.data = value
    np.testing.assert_array_equal(parameter.data, [1, 1])
