"""Layer and root-mean-square normalization; see ext/kernels/layer_norm.h."""

from __future__ import annotations

import numpy as np

from syncbn.reference._inverse import inverse_std
from syncbn.typing import Float64Array, FloatArray


@np.errstate(all="ignore")
def feature_forward(
    x_rd: FloatArray,
    weight_d: FloatArray,
    bias_d: FloatArray,
    eps: float,
    centred: bool,
    # out
    moments_2r: Float64Array,
    y_rd: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find y = (x − μ)·scale·weight + bias, scale = 1/√(mean of (x − μ)² + eps); μ is 0 unless centred."""
    x = x_rd.astype(np.float64)
    origin = x[:, :1] if centred else np.zeros((len(x), 1))
    mean = origin + (x - origin).mean(axis=1, keepdims=True) if centred else origin
    total = ((x - mean) ** 2).mean(axis=1) + eps
    moments_2r[0] = mean[:, 0]
    moments_2r[1] = inverse_std(total, (x == origin).all(axis=1))
    y_rd[...] = (x - mean) * moments_2r[1][:, None] * weight_d + bias_d


@np.errstate(all="ignore")
def feature_backward(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    weight_d: FloatArray,
    centred: bool,
    moments_2r: Float64Array,
    # out
    parts_2pd: Float64Array,
    gradients_2d: Float64Array,
    dx_rd: FloatArray,
    threads: int,  # noqa: ARG001
) -> None:
    """Find dx = scale·weight·dy − (b + c·(x − μ)), and gradients of weight and bias: by parts of the rows and all."""
    mean, scale = moments_2r[0][:, None], moments_2r[1][:, None]
    dy, deviation = dy_rd.astype(np.float64), x_rd - mean
    rows, features = dy.shape
    parts = parts_2pd.shape[1]
    for part in range(parts):
        one = slice(part * rows // parts, (part + 1) * rows // parts)
        parts_2pd[:, part] = (dy * deviation * scale)[one].sum(axis=0), dy[one].sum(axis=0)
    gradients_2d[...] = parts_2pd.sum(axis=1)
    weighted = dy * weight_d
    b = scale * weighted.sum(axis=1, keepdims=True) / features if centred else 0.0
    c = scale * (scale * (scale * (weighted * deviation).sum(axis=1, keepdims=True))) / features
    dx_rd[...] = scale * weight_d * dy - (b + c * deviation)
