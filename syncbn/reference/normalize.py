"""Normalized values; see ext/normalize.pyx."""

from __future__ import annotations

from syncbn.reference._memory import channels_first
from syncbn.typing import Float64Array, FloatArray


def normalize_ncs(
    x_ncs: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    # out
    y_ncs: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """y = (x − μ)·scale + bias."""
    y_ncs[...] = (x_ncs - mean_nc[:, :, None]) * scale_nc[:, :, None] + bias_c[:, None]


def normalize_nsc(
    x_nsc: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    # out
    y_nsc: FloatArray,
    threads: int,
) -> None:
    """`normalize_ncs` of channels-last memory."""
    normalize_ncs(channels_first(x_nsc), mean_nc, scale_nc, bias_c, channels_first(y_nsc), threads)


def normalize_rows(
    x_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    bias_d: Float64Array,
    # out
    y_rd: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """y = (x − μ)·scale·weight + bias with a mean and a scale per row, a weight and a bias per feature."""
    y_rd[...] = (x_rd - mean_r[:, None]) * scale_r[:, None] * weight_d + bias_d
