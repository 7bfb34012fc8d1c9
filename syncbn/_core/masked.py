"""Group, instance and layer normalization with the statistics of selected elements, in NumPy and float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from syncbn._core import checks, debug
from syncbn._core.conversion import (
    Edge,
    behaved_rows,
    broadcast_mask,
    memory_order,
    memory_orders,
    parameter64,
    parameter_gradient,
)
from syncbn.reference._inverse import inverse_std
from syncbn.typing import BoolArray, Float64Array, FloatArray


class MaskedPlan:
    """One call of a normalizer with a mask. Calling it is the backward: ``dx, dweight, dbias = plan(dy)``.

    x is seen as (N, G, C, S). The statistics are those of the selected values in the last two axes, and there is one γ
    and one β for each index of the two axes in the middle.

    Parameters
    ----------
    x : ndarray
        Input of the call.
    weight, bias : ndarray or None
        γ and β of the call.
    parameter_shape : tuple of int
        Shape of γ and β.
    eps : float
    to_ngcs : callable
        Function that returns an array of x's shape as (N, G, C, S).
    selected : ndarray of bool
        The mask, broadcastable to (N, G, C, S).
    restore : callable
        Function that returns an array of shape (N, G, C, S) in x's shape, dtype and memory order.

    Attributes
    ----------
    y : ndarray
        Result of the forward.
    mean, var, count : ndarray of float64, shape (N, G)
        Mean, biased variance and number of the selected values.
    check : callable or None
        Set by layers: it raises if parameters have changed.
    """

    @np.errstate(all="ignore")  # infinities and NaN are visible in the result
    def __init__(
        self,
        x: FloatArray,
        weight: FloatArray | None,
        bias: FloatArray | None,
        parameter_shape: tuple[int, ...],
        eps: Any,
        to_ngcs: Callable[[FloatArray], FloatArray],
        selected: BoolArray,
        restore: Callable[[Float64Array], FloatArray],
    ) -> None:
        self.check: Callable[[], None] | None = None
        self._checksums = debug.Checksums(x=x) if debug.ENABLED else None
        self._shape, self._to_ngcs, self._restore = x.shape, to_ngcs, restore
        self._parameters = weight, bias
        x_ngcs = to_ngcs(x).astype(np.float64)
        to_gc = (1, *x_ngcs.shape[1:3], 1)
        weight64 = np.ones(to_gc) if weight is None else parameter64(weight, "weight", parameter_shape).reshape(to_gc)
        bias64 = np.zeros(to_gc) if bias is None else parameter64(bias, "bias", parameter_shape).reshape(to_gc)
        eps = checks.check_eps(eps)
        self._selected = np.broadcast_to(selected, x_ngcs.shape).copy()
        count = self._selected.sum(axis=(2, 3), keepdims=True, dtype=np.float64)
        origin = _first(x_ngcs, self._selected)  # if all values are equal, their deviations from it are 0
        mean = origin + self._sum_selected(x_ngcs - origin) / count
        self._deviation = x_ngcs - mean
        var = self._sum_selected(self._deviation**2) / count
        constant: BoolArray = ((x_ngcs == origin) | ~self._selected).all(axis=(2, 3), keepdims=True)
        self._inverse, self._weight = inverse_std(var + eps, constant), weight64
        self.mean, self.var, self.count = (a[:, :, 0, 0] for a in (mean, var, count))
        self.y = restore(self._deviation * (self._inverse * weight64) + bias64)

    def __deepcopy__(self, memo: object) -> MaskedPlan:
        """Return the plan itself, as `copy.deepcopy` does for functions."""
        return self

    @np.errstate(all="ignore")
    def __call__(self, dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        """Return dx, dweight and dbias."""
        if self.check is not None:
            self.check()
        if self._checksums is not None:
            self._checksums.check()
        dy_ngcs = self._to_ngcs(checks.check_same_shape(dy, self._shape)).astype(np.float64)
        inverse, deviation, weight, bias = self._inverse, self._deviation, *self._parameters
        count = self.count[:, :, None, None]
        gradient = dy_ngcs * self._weight
        b = inverse * gradient.sum(axis=(2, 3), keepdims=True) / count
        c = inverse * (inverse * (inverse * (gradient * deviation).sum(axis=(2, 3), keepdims=True))) / count
        through = np.where(self._selected, b + c * deviation, 0.0)
        dweight = (dy_ngcs * deviation * inverse).sum(axis=(0, 3))
        return (
            self._restore(inverse * self._weight * dy_ngcs - through),
            None if weight is None else parameter_gradient(dweight, weight),
            None if bias is None else parameter_gradient(dy_ngcs.sum(axis=(0, 3)), bias),
        )

    def _sum_selected(self, values: Float64Array) -> Float64Array:
        total: Float64Array = np.where(self._selected, values, 0.0).sum(axis=(2, 3), keepdims=True)
        return total


def group_norm(
    x: Any, num_groups: int, weight: Any, bias: Any, eps: Any, channel_axis: int, channels: int | None, mask: Any
) -> tuple[FloatArray, Float64Array, Float64Array, Float64Array, MaskedPlan]:
    """Normalize groups of channels of each sample; return y, mean, var, count and the backward.

    mean, var and count have shape (N, G). The parameters are described at the plan of `syncbn.functional.group_norm`,
    ext/plan_group_norm.pxi.
    """
    x, axis = checks.check_input(x, channel_axis)
    groups = checks.check_groups(num_groups, x.shape[axis], x.shape)
    return _by_channels(x, axis, groups, weight, bias, eps, channels, mask, 1)


def instance_norm(
    x: Any, weight: Any, bias: Any, eps: Any, channel_axis: int, channels: int | None, mask: Any
) -> tuple[FloatArray, Float64Array, Float64Array, Float64Array, MaskedPlan]:
    """Normalize each channel of each sample; return the same tuple as `group_norm`, with one channel per group."""
    x, axis = checks.check_input(x, channel_axis)
    return _by_channels(x, axis, x.shape[axis], weight, bias, eps, channels, mask, 2)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any, bias: Any, eps: Any, mask: Any
) -> tuple[FloatArray, MaskedPlan]:
    """Normalize over trailing axes; return y and the backward."""
    x = checks.check_floating(x, "x", min_ndim=1)
    trailing = checks.check_trailing(x.shape, normalized_shape)
    rows, edge = behaved_rows(x)
    features = math.prod(trailing)
    shape = (rows.size // features, 1, features, 1)
    selected = broadcast_mask(mask, x.shape).reshape(shape)
    checks.check_selected(selected.sum(axis=(1, 2, 3)), 1, "row")
    plan = MaskedPlan(
        x,
        weight,
        bias,
        trailing,
        eps,
        lambda array: array.reshape(shape),
        selected,
        lambda result: edge.restore(result.reshape(x.shape)),
    )
    return plan.y, plan


def _by_channels(
    x: FloatArray,
    axis: int,
    groups: int,
    weight: Any,
    bias: Any,
    eps: Any,
    channels: int | None,
    mask: Any,
    least: int,
) -> tuple[FloatArray, Float64Array, Float64Array, Float64Array, MaskedPlan]:
    """Normalize groups of channels. The mask must select ``least`` positions of each sample."""
    if channels is not None:
        checks.check_channels(x.shape, axis, channels)
    order = memory_orders(x.ndim, axis)[0]
    edge = Edge(x.dtype.newbyteorder("="), memory_order(x, axis) or tuple(range(x.ndim)))
    samples, number, *trailing = first = [x.shape[i] for i in order]
    groups, size = max(min(groups, number), 1), math.prod(trailing)
    selected = broadcast_mask(mask, x.shape, axis).reshape(samples, 1, 1, size)
    if x.size:
        checks.check_selected(selected.sum(axis=(1, 2, 3)), least, "sample")
    plan = MaskedPlan(
        x,
        weight,
        bias,
        (number,),
        eps,
        lambda array: array.transpose(order).reshape(samples, groups, number // groups, size),
        selected,
        lambda result: edge.restore(result.reshape(first).transpose(np.argsort(order))),
    )
    return plan.y, plan.mean, plan.var, plan.count, plan


def _first(x_ngcs: Float64Array, selected: BoolArray) -> Float64Array:
    """Return the first selected value of each group, of shape (N, G, 1, 1)."""
    samples, groups, channels, size = x_ngcs.shape
    if not x_ngcs.size:
        return np.zeros((samples, groups, 1, 1))
    flat = (samples, groups, channels * size)
    index = selected.reshape(flat).argmax(axis=2, keepdims=True)
    return np.take_along_axis(x_ngcs.reshape(flat), index, axis=2)[..., None]
