"""The edge: conversion of arguments that plans cannot use as they are, and of results.

A plan uses *behaved* arrays (NumPy's word): float32 or float64 in native byte order, aligned, and contiguous in one of
the two memory orders, channels-first or channels-last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_floating, check_parameter, check_same_shape, check_unmasked
from syncbn.pitfalls import see
from syncbn.typing import BoolArray, Float64Array, FloatArray


@dataclass(frozen=True)
class Edge:
    """The dtype and the memory order of results, which are those of the caller's x.

    Attributes
    ----------
    dtype : dtype
        Dtype of x, in native byte order.
    axes : tuple of int
        Axes of the results in their order in memory: that of x, or C order if x is in neither memory order. Empty
        if the memory order is the one in which the plan computes.
    """

    dtype: np.dtype[Any]
    axes: tuple[int, ...] = ()

    def restore(self, result: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return a result in the dtype and memory order of the caller, or write it to ``out`` and return that."""
        if out is None:
            if result.dtype == self.dtype and result.transpose(self.axes or None).flags.c_contiguous:
                return result
            out = np.empty([result.shape[i] for i in self.axes], self.dtype).transpose(_inverse(self.axes))
        _copy(out, result)
        return out


HALF = Edge(np.dtype(np.float16))
"""The edge of contiguous float16 arrays, which plans convert in compiled code unless there is an ``out``."""


def memory_orders(ndim: int, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of the two memory orders, channels-first and channels-last, for the channel axis ``axis``."""
    sample, *trailing = (i for i in range(ndim) if i != axis)
    return (sample, axis, *trailing), (sample, *trailing, axis)


def memory_order(x: FloatArray, axis: int) -> tuple[int, ...] | None:
    """Return the memory order in which x is contiguous, channels-first if it is both, None if it is neither."""
    return next((order for order in memory_orders(x.ndim, axis) if x.transpose(order).flags.c_contiguous), None)


def behaved(x: FloatArray, axis: int) -> tuple[FloatArray, Edge]:
    """Return x, whose channel axis is ``axis``, as a behaved array, and the edge."""
    first, last = memory_orders(x.ndim, axis)
    own = memory_order(x, axis)
    rows_of_one_value = all(x.shape[i] == 1 for i in first[2:])
    order = own or (last if rows_of_one_value else first)
    memory = c_contiguous(x.transpose(order))
    return memory.transpose(_inverse(order)), Edge(x.dtype.newbyteorder("="), own or tuple(range(x.ndim)))


def behaved_rows(x: Any) -> tuple[FloatArray, Edge]:
    """Return x as a behaved array in C order, and the edge; raise unless x is a floating array."""
    x = check_floating(x, "x", min_ndim=1)
    axes = (memory_order(x, 1) if x.ndim > 2 else None) or tuple(range(x.ndim))
    return c_contiguous(x), Edge(x.dtype.newbyteorder("="), axes)


def like(x: FloatArray, array: Any, name: str, dtype: np.dtype[Any] | None) -> FloatArray:
    """Return ``array`` in the dtype and memory order of x, a behaved array; raise unless it has x's shape.

    If ``dtype`` is not None, raise unless it is the dtype of ``array``.
    """
    array = check_same_shape(array, x.shape, name)
    if dtype is not None and array.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"{name} must have x's dtype {dtype}, got {array.dtype}")
    result = np.empty_like(x)
    _copy(result, array)
    return result


def broadcast_mask(mask: Any, x_shape: Sequence[int], channel_axis: int | None = None) -> BoolArray:
    """Return ``mask`` as a contiguous array of x's shape, without the channel axis if there is one, or raise."""
    shape = tuple(x_shape if channel_axis is None else np.delete(x_shape, channel_axis).tolist())
    check_unmasked(mask, "mask")
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must have dtype bool, got {mask.dtype}: convert it, as by astype(bool){see('masks')}")
    try:
        return np.ascontiguousarray(np.broadcast_to(mask, shape))
    except ValueError:
        raise ValueError(
            f"mask must be broadcastable to x{'' if channel_axis is None else ' without its channel axis'}, {shape}, "
            f"got shape {mask.shape}{see('masks')}"
        ) from None


def parameter64(array: Any, name: str, shape: tuple[int, ...]) -> Float64Array:
    """Return a weight, bias or statistic of ``shape`` as an array of float64 with one axis."""
    with np.errstate(all="ignore"):
        return check_parameter(array, name, shape).astype(np.float64).ravel()


def parameter_gradient(gradient: Float64Array, parameter: FloatArray) -> FloatArray:
    """Return a gradient in the shape and dtype of its parameter; values beyond its range become infinite."""
    with np.errstate(all="ignore"):
        return gradient.reshape(parameter.shape).astype(parameter.dtype)


@np.errstate(all="ignore")  # infinities and NaN are visible in the result
def update_average(average: FloatArray, value: Float64Array, momentum: float, factor: float) -> None:
    """Update a moving average like `syncbn._core.plans.update_average`, of any dtype and memory."""
    average[...] = (1.0 - momentum) * average.astype(np.float64) + momentum * (factor * value)


@np.errstate(all="ignore")  # a signaling NaN is an invalid value
def c_contiguous(x: FloatArray) -> FloatArray:
    """Return x aligned, in C order and native byte order, in the dtype of behaved arrays: float32 for float16."""
    return np.require(x, np.dtype(np.float32 if x.dtype.itemsize < 4 else x.dtype.type), ["C", "A"])


def _copy(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copy values; those beyond the range of the target's dtype become infinite."""
    with np.errstate(all="ignore"):
        np.copyto(target, source, casting="same_kind")


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the inverse of a permutation of axes."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))
