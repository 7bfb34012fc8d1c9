"""A user's program, on which `test_types.py` runs mypy and pyright.

A line that ends with ``# error`` must be an error of both mypy and pyright, and no other line may be one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import syncbn
from syncbn import BatchNorm, FrozenBatchNorm, GroupNorm, LayerNorm, Module, Parameter, RMSNorm, SyncBatchNorm
from syncbn import functional as F
from syncbn.nn import Dense, ReLU, ResidualBlock, Sequential
from syncbn.typing import Backward, BackwardOf, FloatArray, ResidualBackwardOf

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def layers(x: Float32, x64: Float64, mask: NDArray[np.bool_], norm: SyncBatchNorm) -> None:
    """The result of a layer has x's dtype, and the type of its backward depends on the residual."""
    assert_type(BatchNorm(3)(x), tuple[Float32, BackwardOf[np.float32]])
    assert_type(BatchNorm(3)(x64, mask), tuple[Float64, BackwardOf[np.float64]])
    assert_type(norm(x, residual=x, relu=True), tuple[Float32, ResidualBackwardOf[np.float32]])
    assert_type(FrozenBatchNorm(3)(x), tuple[Float32, BackwardOf[np.float32]])
    for normalizer in (GroupNorm(1, 3)(x, mask=mask), LayerNorm(3)(x), RMSNorm(3)(x), ReLU()(x), Dense(3, 2)(x)):
        assert_type(normalizer, tuple[Float32, BackwardOf[np.float32]])
    y, backward = Sequential(Dense(3, 3), BatchNorm(3))(x)
    assert_type(y, Float32)
    assert_type(backward(y), Float32)
    _, with_residual = norm(x, residual=x)
    assert_type(with_residual(y), tuple[Float32, Float32])


def wrong_calls(x: Float32, mask: NDArray[np.bool_], norm: SyncBatchNorm) -> None:
    """Misspelt keywords and wrong arguments of layers and functions."""
    norm(x, maks=mask)  # error
    BatchNorm(3)(x, channel_axis=1)  # error
    GroupNorm(1, 3)(x, residual=x)  # error
    Dense(3, 2)(x, mask)  # error
    BatchNorm(3)([1.0])  # error
    BatchNorm(3, epsilon=1e-3)  # error
    F.batch_norm(x, masks=mask)  # error
    syncbn.exact_sum(x, axes=0)  # error
    y, backward = norm(x)
    backward(y, y)  # error
    backward(dy=y, relu=True)  # error


def functions(x: Float32, w: Float64) -> None:
    """Results of functions have x's dtype, and gradients of missing parameters may be None."""
    y, moments, backward = F.batch_norm(x, w)
    assert_type(y, Float32)
    assert_type(moments.count, int)
    assert_type(backward(y, total=True), tuple[Float32, FloatArray | None, FloatArray | None])
    assert_type(len(F.batch_norm(x, residual=x)[2](y)), int)
    assert_type(F.batch_norm_inference(x, w, w)[1](y)[0], Float32)
    assert_type(F.group_norm(x, 1)[1](y)[0], Float32)
    assert_type(F.weight_norm(x, w)[0], Float32)


class Net(Module):
    """A module of a user, whose forward has the plain types."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm(3)

    def forward(self, x: FloatArray, scale: float = 1.0) -> tuple[FloatArray, Backward]:
        """Normalize values times a number."""
        return self.norm(scale * x)


def modules(net: Net, x: Float32) -> None:
    """Methods return the class of the module, and `parameters` is an iterator."""
    assert_type(net(x, scale=2.0)[0], FloatArray)
    assert_type(net.eval(), Net)
    assert_type(net.train().to(np.float64), Net)
    assert_type(net.apply(print), Net)
    assert_type(next(net.parameters()), Parameter)
    assert_type(net.modules(), Iterator[Module])
    blocks: list[Callable[..., Any]] = [ResidualBlock(3, 3, norm=BatchNorm, zero_init_residual=True)]
    assert blocks
