"""Normalized values; see ext/kernels/normalize.h."""

from __future__ import annotations

import numpy as np

from syncbn.reference._memory import channels_first
from syncbn.typing import Float64Array, FloatArray


def normalize_ncs(
    x_ncs: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    residual: FloatArray,
    relu: bool,
    # out
    y_ncs: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find y = (x − μ)·scale + bias; then y + residual, unless that is (0, 0, 0); then max(y, 0), if relu."""
    y_ncs[...] = (x_ncs - mean_nc[:, :, None]) * scale_nc[:, :, None] + bias_c[:, None]
    if residual.size:
        y_ncs += residual
    if relu:
        np.maximum(y_ncs, 0, out=y_ncs)


def normalize_nsc(
    x_nsc: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    residual: FloatArray,
    relu: bool,
    # out
    y_nsc: FloatArray,
    threads: int,
) -> None:
    """Find y in channels-last memory."""
    x_ncs, residual_ncs, y_ncs = (channels_first(a) for a in (x_nsc, residual, y_nsc))
    normalize_ncs(x_ncs, mean_nc, scale_nc, bias_c, residual_ncs, relu, y_ncs, threads)
