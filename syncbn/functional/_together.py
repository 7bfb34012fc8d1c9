"""Batch normalization of the ranks of a communicator: what each sums, what they agree on, what each makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._dispatch import channels as kernels
from syncbn._dispatch.checks import check_out
from syncbn._dispatch.gradients import gradient_terms
from syncbn._dispatch.layout import NO_MASK
from syncbn._dispatch.moments import moment_terms
from syncbn.comm import Communicator
from syncbn.functional._input import BatchInput
from syncbn.functional._reductions import NO_MAXIMA, find_reduction
from syncbn.moments import Moments, check_count
from syncbn.typing import FloatArray


def normalize_together(given: BatchInput, communicator: Communicator, name: str) -> tuple[FloatArray, Moments, Any]:
    """Return y, the moments and the backward of this rank's batch. Collective, and so is the backward."""
    layout, channels = given.layout, given.layout.channels
    reduction = find_reduction(given.reduction)
    mask_ns = NO_MASK if given.mask is None else given.mask
    terms = moment_terms(given.x, layout, mask_ns)
    moments, invstd, number = reduction.moments(terms, channels, given.eps, communicator, given.call(name))
    check_count(moments.count, layout.shape)
    mean_nc = moments.mean[None, :]
    with np.errstate(all="ignore"):  # infinities and NaN of the result say it
        scale = given.weight64 * invstd if given.weight is not None else invstd
    bias = given.bias64 if given.bias is not None else np.zeros(channels)
    y = kernels.normalize(
        given.x,
        layout,
        mean_nc,
        scale[None, :],
        bias,
        given.residual,
        given.relu,
        given.y,
    )

    def backward(dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:
        call = given.call(name, forward_number=number)
        try:
            g = layout.view(given.check_gradient(dy))
            if out is not None:
                out = check_out(out, "out", layout.shape, layout.dtype, given.x, dy, y)
        except Exception as error:
            communicator.agree(call, NO_MAXIMA, error)
            raise
        dx = layout.empty(out)
        if given.relu:
            g = kernels.relu_gradient(y, g, np.empty_like(dx) if given.residual is not None else dx)
        totals = reduction.totals(gradient_terms(given.x, g, layout, moments.mean), channels, communicator, call)
        with np.errstate(all="ignore"):
            dy_mean, product_mean = totals.everywhere / max(moments.count, 1)
            shift = scale * dy_mean
            slope = scale * (invstd * (invstd * product_mean))  # invstd² may be out of float64's range
            dy_sum, product_sum = totals.everywhere if total else totals.here
            dweight = None if given.weight is None else (invstd * product_sum).astype(given.weight.dtype)
            dbias = None if given.bias is None else dy_sum.astype(given.bias.dtype)
        factors = (scale[None, :], shift[None, :], slope[None, :])
        kernels.input_gradient(given.x, g, layout, mean_nc, *factors, mask_ns, dx)
        gradients = (layout.restore(dx, out), dweight, dbias)
        if given.residual is not None:
            return *gradients, layout.restore(g) if given.relu else dy
        return gradients

    return layout.restore(y, given.out), moments, backward
