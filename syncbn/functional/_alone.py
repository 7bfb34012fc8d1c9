"""Batch normalization of one process: one kernel forward, one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._dispatch.batch import backward as input_gradient
from syncbn._dispatch.batch import batch_of, forward
from syncbn._dispatch.checks import check_out
from syncbn._dispatch.layout import NO_ARRAYS
from syncbn.functional._input import BatchInput
from syncbn.moments import Moments, check_count
from syncbn.typing import FloatArray


def normalize_alone(given: BatchInput) -> tuple[FloatArray, Moments, Any]:
    """Return y, the moments and the backward of a batch."""
    layout, relu = given.layout, given.relu
    batch = batch_of(given.x, layout, given.mask_ns, given.reduction == "exact")
    check_count(batch.count, layout.shape)
    if batch.count == 0:
        moments_5c = np.zeros((5, layout.channels))
    else:
        moments_5c = forward(batch, given.weight64, given.bias64, given.eps, given.residual, relu, given.y)
    none = NO_ARRAYS[given.x.dtype]
    y = given.y if relu else none

    def backward(dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:  # noqa: ARG001
        dy_view = given.gradient_view(dy)
        if out is not None:
            out = check_out(out, "out", layout.shape, layout.dtype, given.x, dy, y)
        dx = layout.empty(out)
        g = np.empty_like(dx) if relu and given.has_residual else none
        if batch.count == 0:
            dweight, dbias = np.zeros((2, layout.channels))
        else:
            dweight, dbias = input_gradient(batch, dy_view, moments_5c, y, g, dx)
        gradients = (
            layout.restore(dx, out),
            None if given.weight is None else dweight.astype(given.weight.dtype),
            None if given.bias is None else dbias.astype(given.bias.dtype),
        )
        if given.has_residual:
            return (*gradients, layout.restore(g) if relu else dy)
        return gradients

    return layout.restore(given.y, given.out), Moments(batch.count, moments_5c[0], moments_5c[1]), backward
