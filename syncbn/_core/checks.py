"""What arrays must be before a kernel sees them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import Float64Array, FloatArray


def check_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return ``value`` as an int; raise TypeError unless it is an integer, and ValueError below ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def check_floating(array: Any, name: str, min_ndim: int = 0) -> FloatArray:
    """Return ``array``, or raise TypeError or ValueError when it isn't a real floating ndarray."""
    if type(array) is not np.ndarray and not isinstance(array, (np.ndarray, np.floating)):
        raise TypeError(f"{name} must be a NumPy array of float16, float32 or float64, got {type(array).__name__}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must have dtype float16, float32 or float64, got {array.dtype}")
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have {min_ndim} or more axes, got shape {array.shape}")
    return array if type(array) is np.ndarray else np.asarray(array)  # a plain array of scalars and of subclasses


def check_same_shape(array: Any, shape: tuple[int, ...], name: str = "dy") -> FloatArray:
    """Return ``array``, or raise when it isn't a floating array of ``shape``."""
    checked = check_floating(array, name)
    if checked.shape != shape:
        raise ValueError(f"{name} must have y's shape {shape}, got {checked.shape}")
    return checked


def check_parameter(array: Any, name: str, shape: tuple[int, ...]) -> FloatArray | None:
    """Return a weight or bias of ``shape``, or None where there is none."""
    if array is None:
        return None
    if type(array) is np.ndarray and array.shape == shape and array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return array
    parameter = check_floating(array, name)
    if parameter.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {parameter.shape}")
    return parameter


def check_eps(eps: float) -> float:
    """Return ``eps`` as a float, or raise when it isn't finite and ≥ 0."""
    if type(eps) is float and 0 < eps < math.inf:
        return eps
    if isinstance(eps, bool) or not isinstance(eps, (int, float, np.integer, np.floating)):
        raise TypeError(f"eps must be a number, got {eps!r}")
    try:
        value = float(eps)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"eps must be finite and at least 0, got {eps!r}")
    return value + 0.0  # not −0, which other ranks would see as another one


def check_out(
    out: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: FloatArray
) -> FloatArray | None:
    """Return an array that a result of ``shape`` and ``dtype`` may be written to, or None where there is none."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"{name} must have x's dtype in native byte order, {dtype}, got {out.dtype!r}")
    if out.shape != shape:
        raise ValueError(f"{name} must have x's shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writable")
    if any(np.may_share_memory(out, array) for array in inputs):
        raise ValueError(f"{name} must not overlap what is read: give it memory of its own")
    return out


def check_axis(axis: int, ndim: int, name: str = "channel_axis") -> int:
    """Return ``axis`` counted from 0, or raise when an array of ``ndim`` axes has no such axis."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}) for {ndim} axes, got {axis}")
    return int(axis) % ndim


def to_float64(array: NDArray[Any] | None, shape: tuple[int, ...], default: float) -> Float64Array:
    """Return ``array`` as contiguous aligned native float64, or ``default`` everywhere where it is None."""
    if array is None:
        return np.full(shape, default)
    return array.astype(np.float64, order="C")  # a copy is aligned
