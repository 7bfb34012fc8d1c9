"""Checks of arguments. They run to explain a refusal: plans take the usual arguments without them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from syncbn.typing import FloatArray

Reduction = Literal["exact", "float64"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)

MAX_ROWS = 1 << 30
"""Rows of all ranks that exact sums can take: each adds up to 2³² to a limb of 63 bits."""


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
    return array if type(array) is np.ndarray else np.asarray(array)  # scalars and subclasses too


def check_input(x: Any, channel_axis: Any) -> tuple[FloatArray, int]:
    """Return x and its channel axis counted from 0, or raise when it isn't floating or has no such axis."""
    x = check_floating(x, "x", min_ndim=2)
    return x, check_axis(channel_axis, x.ndim)


def check_same_shape(array: Any, shape: tuple[int, ...], name: str = "dy") -> FloatArray:
    """Return ``array``, or raise when it isn't a floating array of ``shape``."""
    checked = check_floating(array, name)
    if checked.shape != shape:
        raise ValueError(f"{name} must have y's shape {shape}, got {checked.shape}")
    return checked


def check_parameter(array: Any, name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return a weight, bias or statistic of ``shape``, or raise."""
    parameter = check_floating(array, name)
    if parameter.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {parameter.shape}")
    return parameter


def check_eps(eps: float) -> float:
    """Return ``eps`` as a float, or raise when it isn't finite and ≥ 0."""
    if isinstance(eps, bool) or not isinstance(eps, (int, float, np.integer, np.floating)):
        raise TypeError(f"eps must be a number, got {eps!r}")
    try:
        value = float(eps)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"eps must be finite and at least 0, got {eps!r}")
    return value + 0.0  # not −0, whose bits differ on other ranks


def check_reduction(reduction: str, samples: int = 0, ranks: int = 1) -> str:
    """Return ``reduction``, or raise when there is none of that name, or it can't sum so many samples of a rank."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"reduction must be 'exact' or 'float64', got {reduction!r}")
    if reduction == "exact" and samples > MAX_ROWS // ranks:
        raise ValueError(
            f"exact sums take at most {MAX_ROWS // ranks} samples on each rank (of {ranks}), got {samples}: "
            "use reduction='float64'"
        )
    return reduction


def check_name(name: str) -> str:
    """Return the ``name`` of a call, or raise TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    return str.__str__(name)  # other ranks may not know a class of this one


def check_channels(shape: tuple[int, ...], channel_axis: int, channels: int) -> None:
    """Raise ValueError when x of ``shape`` hasn't so many channels."""
    axis = channel_axis % len(shape)
    if shape[axis] != channels:
        raise ValueError(f"x must have {channels} channels on axis {axis}, got shape {shape}")


def check_groups(num_groups: int, channels: int) -> int:
    """Return ``num_groups``, or raise when it doesn't divide so many channels."""
    num_groups = check_integer("num_groups", num_groups)
    if channels % num_groups:
        raise ValueError(f"num_groups must divide the {channels} channels of x, got {num_groups}")
    return num_groups


def check_instances(shape: tuple[int, ...], channel_axis: int) -> None:
    """Raise ValueError when x of ``shape`` has 1 value per channel of each sample."""
    axis = channel_axis % len(shape)
    if math.prod([size for i, size in enumerate(shape) if i != axis][1:]) == 1:
        raise ValueError(
            f"instance normalization needs more than 1 value per channel of each sample, got shape {shape}"
        )


def check_shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple of positive integers, or raise."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not shape or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in shape):
        raise TypeError(f"normalized_shape must be an integer or a sequence of integers, got {normalized_shape!r}")
    if min(shape) < 1:
        raise ValueError(f"normalized_shape must be positive, got {normalized_shape!r}")
    return tuple(int(n) for n in shape)


def check_trailing(shape: tuple[int, ...], normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple, or raise when x of ``shape`` doesn't end in it."""
    trailing = check_shape(normalized_shape)
    if shape[max(len(shape) - len(trailing), 0) :] != trailing:
        raise ValueError(f"x must end in normalized_shape {trailing}, got shape {shape}")
    return trailing


def check_count(count: int, shape: tuple[int, ...], protocol: Any = None, signature: Any = None) -> None:
    """Raise ValueError, on all ranks, when ``count`` values per channel over all of them have no statistics.

    Collective where there is a protocol. No values are an error if a rank has some, of ``shape``, that its mask does
    not select.
    """
    if count == 1:
        raise ValueError(
            f"batch normalization needs more than 1 value per channel over all ranks, got 1 "
            f"(x of shape {shape} on this rank)"
        )
    unselected = float(0 not in shape)
    if protocol is not None:
        protocol.handshake(signature)
        buffer = protocol.sum_buffer(1, np.dtype(np.float64))
        buffer[0] = unselected
        protocol.sum(buffer)
        unselected = buffer[0]
    if unselected:
        raise ValueError(f"mask selects no value of x on any rank (x of shape {shape} on this rank)")


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: FloatArray | None) -> None:
    """Raise unless a result of ``shape`` and ``dtype`` may be written to ``out``."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have x's dtype in native byte order, {dtype}, got {out.dtype!r}")
    if out.shape != shape:
        raise ValueError(f"out must have x's shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable")
    if any(array is not None and np.may_share_memory(out, array) for array in inputs):
        raise ValueError("out must not overlap x, residual, dy or (with relu) y: give it memory of its own")


def check_axis(axis: int, ndim: int, name: str = "channel_axis") -> int:
    """Return ``axis`` counted from 0, or raise when an array of ``ndim`` axes has no such axis."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}) for {ndim} axes, got {axis}")
    return int(axis) % ndim
