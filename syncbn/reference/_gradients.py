"""Gradients of x; see ext/kernels/input_gradient.h."""

from __future__ import annotations

import numpy as np

from syncbn.reference._memory import MaskArray, channels_first
from syncbn.typing import Float64Array, FloatArray


def input_gradient_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    a_nc: Float64Array,
    b_nc: Float64Array,
    c_nc: Float64Array,
    # out
    dx_ncs: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find dx = a·dy − mask·(b + c·(x − μ))."""
    through = b_nc[:, :, None] + c_nc[:, :, None] * (x_ncs - mean_nc[:, :, None])
    if mask_ns.size:
        through = np.where(mask_ns[:, None, :], through, 0.0)
    dx_ncs[...] = a_nc[:, :, None] * dy_ncs - through


def input_gradient_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    a_nc: Float64Array,
    b_nc: Float64Array,
    c_nc: Float64Array,
    # out
    dx_nsc: FloatArray,
    threads: int,
) -> None:
    """Find dx in channels-last memory."""
    x, dy, dx = (channels_first(a) for a in (x_nsc, dy_nsc, dx_nsc))
    input_gradient_ncs(x, dy, mask_ns, mean_nc, a_nc, b_nc, c_nc, dx, threads)


def relu_gradients(
    y: FloatArray,
    dy: FloatArray,
    # out
    g: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find g = dy where y > 0, else 0."""
    g[...] = np.where(y > 0, dy, 0)
