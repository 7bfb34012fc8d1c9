"""The plans of all normalizers: each runs one call, in compiled code (ext/plans.pyx), or with a mask in `masked`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncbn._core import masked
from syncbn._core.kernels import compiled

_plans = compiled("plans")

batch_norm = _plans.batch_norm
batch_norm_inference = _plans.batch_norm_inference
batch_norm_gradient = _plans.batch_norm_gradient


def group_norm(
    x: Any,
    num_groups: int,
    weight: Any,
    bias: Any,
    eps: Any,
    channel_axis: int,
    channels: int | None,
    mask: Any = None,
) -> tuple[Any, ...]:
    """Normalize groups of channels of each sample; return y, mean, var, count and the backward."""
    if mask is None:
        found: tuple[Any, ...] = _plans.group_norm(x, num_groups, weight, bias, eps, channel_axis, channels)
        return found
    return masked.group_norm(x, num_groups, weight, bias, eps, channel_axis, channels, mask)


def instance_norm(
    x: Any, weight: Any, bias: Any, eps: Any, channel_axis: int, channels: int | None, mask: Any = None
) -> tuple[Any, ...]:
    """Normalize each channel of each sample; return the same tuple as `group_norm`."""
    if mask is None:
        found: tuple[Any, ...] = _plans.instance_norm(x, weight, bias, eps, channel_axis, channels)
        return found
    return masked.instance_norm(x, weight, bias, eps, channel_axis, channels, mask)


def feature_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any,
    bias: Any,
    eps: Any,
    centered: bool,
    mask: Any = None,
) -> Any:
    """Normalize over trailing axes; return y and the backward. A mask requires an eps and ``centered``."""
    if mask is None:
        return _plans.feature_norm(x, normalized_shape, weight, bias, eps, centered)
    return masked.layer_norm(x, normalized_shape, weight, bias, eps, mask)


__all__ = ["batch_norm", "batch_norm_gradient", "batch_norm_inference", "feature_norm", "group_norm", "instance_norm"]
