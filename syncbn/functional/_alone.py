"""Batch normalization of one process: one kernel forward, one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._core.batch import BatchKernels, batch_kernels
from syncbn._core.checks import check_out
from syncbn._core.conversion import parameter_gradients
from syncbn.comm import SERIAL
from syncbn.functional._input import BatchInput
from syncbn.functional._statistics import check_count, moments_of
from syncbn.moments import Moments
from syncbn.typing import Float64Array, FloatArray


def normalize_alone(given: BatchInput) -> tuple[FloatArray, Moments, Any]:
    """Return y, the moments and the backward of a batch."""
    kernels = batch_kernels(given.layout, given.reduction == "exact")
    count, moments_5c = kernels.forward(
        given.x, given.mask, given.weight64, given.bias64, given.eps, given.residual, given.relu, given.y
    )
    if count < 2:
        check_count(count, given.layout.shape, SERIAL)
    y = given.layout.restore(given.y, given.out)
    return y, moments_of(count, moments_5c), backward_alone(given, kernels, count, moments_5c)


def backward_alone(given: BatchInput, kernels: BatchKernels, count: int, moments_5c: Float64Array) -> Any:
    """Return the backward of a forward with these statistics, which are constants where ``count`` is 0."""
    layout, x, mask, relu, residual = given.layout, given.x, given.mask, given.relu, given.residual
    y = given.y if relu else None  # there is none of a backward alone
    weight, bias = given.weight, given.bias

    def backward(dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:  # noqa: ARG001
        dy_view = layout.view(given.check_gradient(dy))
        if out is not None:
            out = check_out(out, "out", layout.shape, layout.dtype, x, dy, *(() if y is None else (y,)))
        dx = layout.empty(out)
        g = None if y is None or residual is None else np.empty_like(dx)
        gradients_4c = kernels.backward(x, dy_view, mask, count, moments_5c, y, g, dx)
        gradients = (layout.restore(dx, out), *parameter_gradients(gradients_4c, weight, bias))
        if residual is None:
            return gradients
        return *gradients, dy if g is None else layout.restore(g)

    return backward


def general_backward(
    x: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    eps: float,
    channel_axis: int,
    reduction: str,
    count: int,
    moments_5c: Float64Array,
) -> Any:
    """Return the backward of a forward that has gone the short way of plain arrays, for a dy that can't."""
    given = BatchInput(x, weight, bias, eps, channel_axis, None, reduction, backward_only=True)
    return backward_alone(given, batch_kernels(given.layout, reduction == "exact"), count, moments_5c)
