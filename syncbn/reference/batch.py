"""Batch normalization of one process, in the steps of ranks; see ext/kernels/batch_norm.h."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn.reference._memory import MaskArray
from syncbn.reference._normalize import normalize_ncs, normalize_nsc
from syncbn.reference.ranks import (
    rank_gradient_ranges,
    rank_gradient_sums,
    rank_input_gradient,
    rank_normalize,
    rank_ranges,
    rank_sums,
)
from syncbn.typing import Float64Array, FloatArray


def batch_forward(
    x: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray | None,
    count_n: Float64Array,
    count: int,
    weight_c: Float64Array | None,
    bias_c: Float64Array | None,
    eps: float,
    exact: bool,
    residual: FloatArray | None,
    relu: bool,
    block: int,  # noqa: ARG001
    # out
    rows_3nc: Any,
    moments_5c: Float64Array,
    y: FloatArray,
    threads: int,
) -> None:
    """Make the steps of one rank that is alone."""
    channels = moments_5c.shape[1]
    range_w = np.empty(1 + 2 * channels) if exact else None
    limbs = np.empty((4, channels), np.int64) if exact else None
    sums = None if exact else np.empty((4, channels))
    rank_ranges(x, channels_last, mask_ns, count_n, rows_3nc, range_w, threads)
    rank_sums(x, channels_last, mask_ns, count_n, rows_3nc, range_w, limbs, sums, threads)
    rank_normalize(
        x,
        channels_last,
        count,
        range_w,
        limbs,
        sums,
        weight_c,
        bias_c,
        eps,
        residual,
        relu,
        moments_5c,
        y,
        threads,
    )


@np.errstate(all="ignore")
def batch_inference(
    x: FloatArray,
    channels_last: bool,
    mean_c: Float64Array,
    var_c: Float64Array,
    weight_c: Float64Array | None,
    bias_c: Float64Array | None,
    eps: float,
    residual: FloatArray | None,
    relu: bool,
    # out
    moments_5c: Float64Array,
    y: FloatArray,
    threads: int,
) -> None:
    """Normalize with given statistics: find μ, var, 1/√(var + eps), scale and bias, and y."""
    invstd = 1 / np.sqrt(var_c + eps)
    scale = invstd if weight_c is None else weight_c * invstd
    bias = np.zeros(len(mean_c)) if bias_c is None else bias_c
    moments_5c[...] = mean_c, var_c, invstd, scale, bias
    residual = np.empty((0, 0, 0), x.dtype) if residual is None else residual
    normalize = normalize_nsc if channels_last else normalize_ncs
    normalize(x, mean_c[None], scale[None], bias, residual, relu, y, threads)


def batch_backward(
    x: FloatArray,
    dy: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray | None,
    count: int,
    moments_5c: Float64Array,
    exact: bool,
    y: FloatArray | None,
    block: int,  # noqa: ARG001
    # out
    rows_2nc: Any,
    gradients_4c: Float64Array,
    g: Any,
    dx: FloatArray,
    threads: int,
) -> None:
    """Make the steps of one rank that is alone; with ``count`` 0 nothing flows through μ and var."""
    channels = moments_5c.shape[1]
    selected = dy if y is None else dx if g is None else g
    absmax = np.empty((2, channels)) if exact else None
    limbs = np.empty((1, 4, channels), np.int64) if exact else None
    sums = None if exact else np.empty((1, 2, channels))
    one_limbs, one_sums = (limbs[0], None) if limbs is not None else (None, sums[0] if sums is not None else None)
    rank_gradient_ranges(x, dy, channels_last, moments_5c, y, selected, rows_2nc, absmax, threads)
    rank_gradient_sums(x, selected, channels_last, moments_5c, rows_2nc, absmax, one_limbs, one_sums, threads)
    rank_input_gradient(
        x,
        selected,
        channels_last,
        mask_ns,
        count,
        moments_5c,
        absmax,
        limbs,
        sums,
        True,
        gradients_4c,
        dx,
        threads,
    )
