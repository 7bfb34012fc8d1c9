"""The edge: arguments that plans cannot take as they are, converted once, and results converted back.

A plan takes float32 and float64 in native byte order, aligned and contiguous in one of the two memory orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_floating, check_parameter, check_same_shape
from syncbn.typing import BoolArray, Float64Array, FloatArray


@dataclass(frozen=True)
class Edge:
    """How results return to the caller.

    Attributes
    ----------
    dtype : dtype
        x's, in native byte order.
    axes : tuple of int
        x's axes in the order of the results' memory: x's own, or C order if x is in neither memory order. Empty: the
        memory order in which the plan computes.
    """

    dtype: np.dtype[Any]
    axes: tuple[int, ...] = ()

    def restore(self, result: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return a result in dtype and memory order of the caller, or written to ``out``."""
        if out is None:
            if result.dtype == self.dtype and result.transpose(self.axes or None).flags.c_contiguous:
                return result
            out = np.empty([result.shape[i] for i in self.axes], self.dtype).transpose(_inverse(self.axes))
        _copy(out, result)
        return out


HALF = Edge(np.dtype(np.float16))
"""The edge of float16 in one of the two memory orders, which plans convert themselves unless there is an ``out``."""


def behaved(x: FloatArray, axis: int) -> tuple[FloatArray, Edge]:
    """Return x with the channel axis ``axis`` as a plan takes it, and the edge."""
    sample, *trailing = (i for i in range(x.ndim) if i != axis)
    first, last = (sample, axis, *trailing), (sample, *trailing, axis)
    own = next((order for order in (first, last) if x.transpose(order).flags.c_contiguous), None)
    rows_of_one_value = all(x.shape[i] == 1 for i in trailing)
    order = own or (last if rows_of_one_value else first)
    memory = np.require(x.transpose(order), _working_dtype(x.dtype), ["C", "A"])
    return memory.transpose(_inverse(order)), Edge(x.dtype.newbyteorder("="), own or tuple(range(x.ndim)))


def behaved_rows(x: Any) -> tuple[FloatArray, Edge]:
    """Return x in C order as a plan over features takes it, and the edge; raise for bad input."""
    x = check_floating(x, "x", min_ndim=1)
    axes = tuple(range(x.ndim))
    channels_last = (0, *axes[2:], 1)
    if x.ndim > 2 and not x.flags.c_contiguous and x.transpose(channels_last).flags.c_contiguous:
        axes = channels_last
    return np.require(x, _working_dtype(x.dtype), ["C", "A"]), Edge(x.dtype.newbyteorder("="), axes)


def like(x: FloatArray, array: Any, name: str, dtype: np.dtype[Any] | None) -> FloatArray:
    """Return ``array`` in the dtype and memory order of x, which is behaved; raise unless it has x's shape.

    ``dtype`` is what its own must be; None is any floating dtype.
    """
    array = check_same_shape(array, x.shape, name)
    if dtype is not None and array.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"{name} must have x's dtype {dtype}, got {array.dtype}")
    result = np.empty_like(x)
    _copy(result, array)
    return result


def broadcast_mask(mask: Any, x_shape: Sequence[int], channel_axis: int) -> BoolArray:
    """Return ``mask`` contiguous, of x's shape without the channel axis; raise where that can't be."""
    shape = tuple(np.delete(x_shape, channel_axis).tolist())
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must have dtype bool, got {mask.dtype}")
    try:
        return np.ascontiguousarray(np.broadcast_to(mask, shape))
    except ValueError:
        raise ValueError(
            f"mask must be broadcastable to x without its channel axis, {shape}, got shape {mask.shape}"
        ) from None


def parameter64(array: Any, name: str, shape: tuple[int, ...]) -> Float64Array:
    """Return a weight, bias or statistic of ``shape`` as one axis of float64."""
    return check_parameter(array, name, shape).astype(np.float64).ravel()


def parameter_gradient(gradient: Float64Array, parameter: FloatArray) -> FloatArray:
    """Return a gradient in the shape and dtype of its parameter; infinite where that can hold no more."""
    with np.errstate(all="ignore"):
        return gradient.reshape(parameter.shape).astype(parameter.dtype)


def _working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which kernels compute values of ``dtype``: float32 for float16."""
    return np.dtype(np.float32 if dtype.itemsize < 4 else dtype.type)


def _copy(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copy values; what the target's dtype cannot hold becomes infinite."""
    with np.errstate(all="ignore"):
        np.copyto(target, source, casting="same_kind")


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))
