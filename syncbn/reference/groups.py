"""Group and instance normalization; see ext/kernels/group_norm.h."""

from __future__ import annotations

import numpy as np

from syncbn.reference._inverse import inverse_std
from syncbn.reference._memory import channels_first
from syncbn.typing import Float64Array, FloatArray


@np.errstate(all="ignore")
def group_forward(
    x: FloatArray,
    channels_last: bool,
    weight_c: Float64Array,
    bias_c: Float64Array,
    eps: float,
    # out
    rows_3nc: Float64Array,
    moments_3ng: Float64Array,
    y: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find y = (x − μ)·scale + bias with μ and var of each sample's groups of channels, scale = weight/√(var + eps)."""
    x_ncs, y_ncs = (channels_first(x), channels_first(y)) if channels_last else (x, y)
    samples, channels, _ = x_ncs.shape
    groups = moments_3ng.shape[2]
    values = x_ncs.reshape(samples, groups, -1).astype(np.float64)
    origin = values[:, :, :1]
    mean = origin[:, :, 0] + (values - origin).mean(axis=2)
    var = ((values - mean[:, :, None]) ** 2).mean(axis=2)
    moments_3ng[...] = mean, var, inverse_std(var + eps, (values == origin).all(axis=2))
    width = channels // groups
    rows_3nc[...] = (
        mean.repeat(width, axis=1),
        moments_3ng[2].repeat(width, axis=1) * weight_c,
        np.broadcast_to(bias_c, (samples, channels)),
    )
    mean_nc, scale_nc, bias_nc = rows_3nc[..., None]
    y_ncs[...] = (x_ncs - mean_nc) * scale_nc + bias_nc


@np.errstate(all="ignore")
def group_backward(
    x: FloatArray,
    dy: FloatArray,
    channels_last: bool,
    weight_c: Float64Array,
    rows_3nc: Float64Array,
    moments_3ng: Float64Array,
    # out
    factors_4nc: Float64Array,
    gradients_2c: Float64Array,
    dx: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find dx = scale·dy − (b + c·(x − μ)), with b and c of each sample's groups of channels."""
    x_ncs, dy_ncs, dx_ncs = (channels_first(a) if channels_last else a for a in (x, dy, dx))
    samples, channels, size = x_ncs.shape
    groups = moments_3ng.shape[2]
    width = channels // groups
    mean_nc, scale_nc = rows_3nc[0], rows_3nc[1]
    deviation = x_ncs - mean_nc[:, :, None]
    sums, products = dy_ncs.sum(axis=2, dtype=np.float64), (dy_ncs * deviation).sum(axis=2)
    invstd = moments_3ng[2]
    by_group = (samples, groups, width)
    b = invstd * (sums * weight_c).reshape(by_group).sum(axis=2) / (width * size)
    c = invstd * (invstd * (invstd * (products * weight_c).reshape(by_group).sum(axis=2))) / (width * size)
    factors_4nc[...] = sums, products, b.repeat(width, axis=1), c.repeat(width, axis=1)
    gradients_2c[...] = (products * invstd.repeat(width, axis=1)).sum(axis=0), sums.sum(axis=0)
    dx_ncs[...] = scale_nc[:, :, None] * dy_ncs - (factors_4nc[2][:, :, None] + factors_4nc[3][:, :, None] * deviation)
