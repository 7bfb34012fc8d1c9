"""The plans of all normalizers: each runs one call, in compiled code (ext/plans.pyx), or with a mask in `masked`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from syncbn._core import masked
from syncbn._core.kernels import compiled

_plans = compiled("plans")

update_average = _plans.update_average
conversion_if_needed = _plans.conversion_if_needed
batch_norm = _plans.batch_norm
batch_norm_inference = _plans.batch_norm_inference


def batch_norm_gradient(
    x: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    channel_axis: int,
    mask: Any,
    reduction: str,
    state: tuple[Any, ...],
    protocol: Any,
    layer: str,
) -> Callable[..., tuple[Any, ...]]:
    """Return the backward of an earlier forward without residual and relu, from its `BatchNormPlan.state`.

    The arguments are those of that forward; ``reduction`` is "float64" for `batch_norm_inference`. Through the
    statistics, gradients flow from all elements to the selected ones, so dx is that of a forward without mask and with
    this state, except for the other elements, where it is scale·dy.
    """
    plan = _plans.batch_norm_gradient(x, weight, bias, eps, channel_axis, reduction, state, protocol, layer)
    if mask is None:
        return plan  # type: ignore[no-any-return]
    axis = channel_axis % x.ndim
    unselected = np.expand_dims(~np.broadcast_to(mask, np.delete(x.shape, axis)), axis)
    scale = state[0][3].reshape(-1, *[1] * (x.ndim - 1 - axis))

    def backward(dy: Any, out: Any = None) -> tuple[Any, ...]:
        dx, *parameters = plan(dy, out=out)
        np.multiply(dy, scale.astype(dx.dtype), out=dx, where=unselected)
        return dx, *parameters

    return backward


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


__all__ = [
    "batch_norm",
    "batch_norm_gradient",
    "batch_norm_inference",
    "conversion_if_needed",
    "feature_norm",
    "group_norm",
    "instance_norm",
    "update_average",
]
