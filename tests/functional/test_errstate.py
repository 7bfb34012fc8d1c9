"""The caller's np.seterr does not reach the arithmetic of syncbn."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Parameter, RMSNorm, SerialComm, WeightNorm
from syncbn import functional as F
from syncbn.nn import (
    SGD,
    Adam,
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
    he_normal,
    he_uniform,
    mean_squared_error,
    softmax_cross_entropy,
)
from syncbn.train import Trainer, evaluate

SIGNALING = np.array([0x7FA00000], np.uint32).view(np.float32)[0]  # casts of it are invalid operations
EXTREMES = (1e-300, 1e300, 1e-40, 1e30, np.inf, np.nan, 0.0)

LAYERS = {
    "BatchNorm": lambda: BatchNorm(3),
    "BatchNorm, float16": lambda: BatchNorm(3, dtype=np.float16),
    "InstanceNorm": lambda: InstanceNorm(3, affine=True, track_running_stats=True, dtype=np.float16),
    "GroupNorm": lambda: GroupNorm(1, 3, dtype=np.float16),
    "LayerNorm": lambda: LayerNorm((4, 4), dtype=np.float16),
    "RMSNorm": lambda: RMSNorm((4, 4), dtype=np.float16),
    "Conv2d": lambda: Conv2d(3, 2, 3),
    "ResidualBlock": lambda: ResidualBlock(3, 4, 2, BatchNorm),
    "MaxPool2d": lambda: MaxPool2d(2),
    "AvgPool2d": lambda: AvgPool2d(2),
    "GlobalAvgPool2d": lambda: GlobalAvgPool2d(),
    "ReLU": lambda: ReLU(),
    "Sigmoid": lambda: Sigmoid(),
    "Tanh": lambda: Tanh(),
    "Dropout": lambda: Dropout(),
    "Dense": lambda: Sequential(Flatten(), Dense(48, 2)),
    "WeightNorm": lambda: Sequential(Flatten(), WeightNorm(Dense(48, 2))),
}


def inputs(dtype):
    rng = np.random.default_rng(0)
    for scale in EXTREMES:
        with np.errstate(all="ignore"):
            x = (rng.standard_normal((4, 3, 4, 4)) * scale).astype(dtype)
        yield x
        yield x[::-1, :, ::-1]
    if dtype == np.float32:
        x[0, 0, 0, 0] = SIGNALING
        yield x
        yield np.asfortranarray(x)


@pytest.fixture
def raising():
    with np.errstate(all="raise"):
        yield


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_layers_do_not_raise(build, dtype):
    layer = build()
    for x in inputs(dtype):
        for mode in (True, False):
            y, backward = layer.train(mode)(x)
            for dy in (y, np.full(y.shape, 1e300), np.full(y.shape, 1e-300)):
                dx = backward(dy)
                assert dx.shape == x.shape
                assert dx.dtype == dtype
    state = {
        name: np.full(array.shape, 1e-300) for name, array in layer.state_dict().items() if array.dtype.kind == "f"
    }
    layer.load_state_dict({**layer.state_dict(), **state})


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_functions_do_not_raise(dtype):
    weight = np.full(3, 1e300)
    for x in inputs(dtype):
        for forward in (
            lambda x, **o: F.batch_norm(x, weight, **o),
            lambda x, **o: F.batch_norm(x, weight, residual=x.copy(), relu=True, **o),
            lambda x, **o: F.batch_norm(x, np.full(3, SIGNALING), reduction="float64", **o),
            lambda x: F.batch_norm_inference(x, weight, weight),
            lambda x: F.group_norm(x, 3, weight),
            lambda x: F.layer_norm(x, 4),
            lambda x: F.layer_norm(x, 4, mask=np.arange(4) < 3),
            lambda x: F.rms_norm(x, 4),
            lambda x: F.weight_norm(x, np.ones((4, 1, 1, 1), dtype)),
        ):
            y, *_, backward = forward(x)
            assert y.dtype == dtype
            backward(y)
            backward(np.full(y.shape, 1e300))


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("optimizer", [Adam, lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, 0.9, True, 0.1)])
def test_optimizers_do_not_raise(optimizer, dtype):
    parameter = Parameter(np.ones(3, dtype))
    optimizer = optimizer([parameter])
    for scale in (1e-45, 6e-8, 6e4, 3e38, np.inf):
        with np.errstate(all="ignore"):
            parameter.grad = np.full(3, scale).astype(dtype)
        optimizer.step()
        parameter.add_grad(np.full(3, 1e-300))
        parameter.add_grad(np.full(3, 1e300))
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.usefixtures("raising")
def test_loss_initializers_and_training_do_not_raise(rng):
    assert np.isfinite(softmax_cross_entropy(np.array([[0, 1e4], [3e38, 0]], np.float32), np.array([0, 1]))[0])
    assert mean_squared_error(np.array([[1e300], [1e-300]]), np.zeros((2, 1)))[0] == np.inf
    assert all(draw((500, 500), rng, np.float16).dtype == np.float16 for draw in (he_normal, he_uniform))
    x = rng.standard_normal((8, 3)).astype(np.float32) * 1e-30
    model = Sequential(Dense(3, 4), BatchNorm(4, dtype=np.float16), Dense(4, 2))
    Trainer(model, Adam(model.parameters()), SerialComm(), batch_per_rank=4).fit(x, np.arange(8) % 2, 2)
    model[2].weight.data[...] = 1e38
    assert evaluate(model, x * 1e38, np.arange(8) % 2, SerialComm()).samples == 8
