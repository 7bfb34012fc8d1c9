"""Gradients of x; see ext/gradients.pyx."""

from __future__ import annotations

import numpy as np

from syncbn.reference._memory import MaskArray, channels_first
from syncbn.typing import Float64Array, FloatArray


def input_gradient_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    # out
    dx_ncs: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """dx = direct·dy − mask·[shift + slope·(x − μ)]."""
    through = shift_nc[:, :, None] + slope_nc[:, :, None] * (x_ncs - mean_nc[:, :, None])
    if mask_ns.size:
        through = np.where(mask_ns[:, None, :], through, 0.0)
    dx_ncs[...] = direct_nc[:, :, None] * dy_ncs - through


def input_gradient_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    # out
    dx_nsc: FloatArray,
    threads: int,
) -> None:
    """`input_gradient_ncs` of channels-last memory."""
    x, dy, dx = (channels_first(a) for a in (x_nsc, dy_nsc, dx_nsc))
    input_gradient_ncs(x, dy, mask_ns, mean_nc, direct_nc, shift_nc, slope_nc, dx, threads)


def relu_gradients(
    y: FloatArray,
    dy: FloatArray,
    # out
    g: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """g = dy where y > 0, else 0."""
    g[...] = np.where(y > 0, dy, 0)


def gradient_sums_rows(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    # out
    sum_r: Float64Array,
    product_r: Float64Array,
    dweight_d: Float64Array,
    dbias_d: Float64Array,
) -> None:
    """Σ dy·weight and Σ dy·weight·(x − μ) of each row; Σ dy·(x − μ)·scale and Σ dy of each feature."""
    dy = dy_rd.astype(np.float64)
    deviation = x_rd - mean_r[:, None]
    sum_r[...] = (dy * weight_d).sum(axis=1)
    product_r[...] = (dy * weight_d * deviation).sum(axis=1)
    dweight_d[...] = (dy * deviation * scale_r[:, None]).sum(axis=0)
    dbias_d[...] = dy.sum(axis=0)


def input_gradient_rows(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    shift_r: Float64Array,
    slope_r: Float64Array,
    # out
    dx_rd: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """dx = scale·weight·dy − [shift + slope·(x − μ)]."""
    through = shift_r[:, None] + slope_r[:, None] * (x_rd - mean_r[:, None])
    dx_rd[...] = scale_r[:, None] * weight_d * dy_rd - through
