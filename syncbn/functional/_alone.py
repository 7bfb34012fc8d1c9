"""Batch normalization of one process: one kernel forward, one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._dispatch.batch import batch_kernels
from syncbn._dispatch.checks import check_out
from syncbn._dispatch.layout import parameter_gradients
from syncbn.functional._input import BatchInput
from syncbn.moments import Moments, check_count
from syncbn.typing import FloatArray


def normalize_alone(given: BatchInput) -> tuple[FloatArray, Moments, Any]:
    """Return y, the moments and the backward of a batch."""
    layout, x, mask, weight, bias, residual, relu, y = (
        given.layout,
        given.x,
        given.mask,
        given.weight,
        given.bias,
        given.residual,
        given.relu,
        given.y,
    )
    kernels = batch_kernels(layout, given.reduction == "exact")
    count, moments_5c = kernels.forward(x, mask, given.weight64, given.bias64, given.eps, residual, relu, y)
    if count < 2:
        check_count(count, layout.shape)

    def backward(dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:  # noqa: ARG001
        dy_view = layout.view(given.check_gradient(dy))
        if out is not None:
            out = check_out(out, "out", layout.shape, layout.dtype, x, dy, y)
        dx = layout.empty(out)
        g = np.empty_like(dx) if relu and residual is not None else None
        gradients_4c = kernels.backward(x, dy_view, mask, count, moments_5c, y if relu else None, g, dx)
        dweight, dbias = parameter_gradients(gradients_4c, weight, bias)
        if residual is None:
            return layout.restore(dx, out), dweight, dbias
        return layout.restore(dx, out), dweight, dbias, dy if g is None else layout.restore(g)

    return layout.restore(y, given.out), Moments(count, moments_5c[0], moments_5c[1]), backward
