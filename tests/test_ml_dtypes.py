"""Dtypes of ml_dtypes, such as float8 and bfloat16, are refused by name, or converted without loss."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, MPIComm, SerialComm
from syncbn import functional as F
from syncbn.layers import Parameter
from syncbn.nn import SGD, Adam, Conv2d, Dense, Flatten, ReLU, Sequential, softmax_cross_entropy
from syncbn.train import FlatGradients, evaluate

ml_dtypes = pytest.importorskip(
    "ml_dtypes", reason="NOT TESTED: dtypes of ml_dtypes, which is missing: pip install ml_dtypes"
)

DTYPES = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16, ml_dtypes.int4]
X = np.arange(24).reshape(6, 4) % 7 + 1.0  # exact in all of them
F32 = X.astype(np.float32)
Y = np.zeros(6, int)

REFUSED = {
    "x": lambda x: F.batch_norm(x),
    "weight": lambda x: F.batch_norm(F32, x[0]),
    "residual": lambda x: F.batch_norm(F32, residual=x),
    "mask": lambda x: F.batch_norm(F32, mask=x[:, 0]),
    "dy": lambda x: F.batch_norm(F32)[2](x),
    "out": lambda x: F.batch_norm(F32, out=x),
    "running mean": lambda x: F.batch_norm_inference(F32, x[0], F32[0]),
    "group_norm": lambda x: F.group_norm(x, 2),
    "layer_norm": lambda x: F.layer_norm(x, 4),
    "rms_norm": lambda x: F.rms_norm(x, 4),
    "instance_norm": lambda x: F.instance_norm(x.reshape(2, 3, 4)),
    "weight_norm": lambda x: F.weight_norm(x, F32[:, :1]),
    "dtype": lambda x: BatchNorm(4, dtype=x.dtype),
    "dense": lambda x: Sequential(Dense(4, 3))(x),
    "conv": lambda x: Conv2d(1, 1, 2)(x.reshape(1, 1, 6, 4)),
    "relu": lambda x: ReLU()(x),
    "flatten": lambda x: Flatten()(x),
    "logits": lambda x: softmax_cross_entropy(x, Y),
    "labels": lambda x: softmax_cross_entropy(F32, x[:, 0]),
    "samples": lambda x: evaluate(Dense(4, 3), x, Y, SerialComm()),
    "classes": lambda x: evaluate(Dense(4, 3), F32, x[:, 0], SerialComm()),
    "wire": lambda x: FlatGradients([Parameter(F32)], x.dtype),
    "allreduce": lambda x: SerialComm().allreduce(x),
    "broadcast": lambda x: SerialComm().broadcast(x),
}


def loaded(x):
    layer = BatchNorm(4)
    layer.load_state_dict({**layer.state_dict(), "weight": x[0], "running_var": x[1]})
    return [layer.weight.data, layer.running_var]


def dense_gradient(x):
    layer = Dense(4, 4, rng=np.random.default_rng(0))
    return [layer(F32)[1](x), layer.weight.grad]


def momentum_of(value):
    layer = BatchNorm(4, momentum=value)
    layer(F32)
    return [layer.running_mean, layer.running_var]


CONVERTED = {
    "state": loaded,
    "dy of dense": dense_gradient,
    "learning rate": lambda x: [np.array(SGD([Parameter(F32)], x[0, 0]).lr)],
    "momentum": lambda x: momentum_of(x[0, 0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused_by_name(call, dtype):
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        call(X.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", CONVERTED.values(), ids=CONVERTED)
def test_converted_exactly(call, dtype):
    for ours, expected in zip(call(X.astype(dtype)), call(F32), strict=True):
        np.testing.assert_array_equal(ours, expected, strict=True)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16])
def test_an_optimizer_computes_in_float32(optimizer, dtype):
    parameters = [Parameter(np.ones(4, found)) for found in (dtype, np.float32)]
    for parameter in parameters:
        parameter.add_grad(np.full(4, 0.5, parameter.data.dtype))
        optimizer([parameter], 0.25).step()
    np.testing.assert_array_equal(parameters[0].data, parameters[1].data.astype(dtype))


@pytest.mark.ranks
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", ["allreduce", "broadcast"])
def test_messages_between_ranks(call, dtype):
    with MPIComm() as own, pytest.raises(TypeError, match=f"MPI has no type for {np.dtype(dtype).name}"):
        getattr(own, call)(X.astype(dtype))
