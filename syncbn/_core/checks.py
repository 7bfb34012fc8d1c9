"""Checks of arguments, which raise the errors that explain why a plan refuses an argument."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from syncbn.pitfalls import see
from syncbn.typing import FloatArray, ScalarT

Reduction = Literal["exact", "float64"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)

MAX_ROWS = 1 << 30
"""Maximum number of rows of all ranks for exact sums: each row adds up to 2³² to a limb of 63 bits."""


def check_integer(name: str, value: Any, minimum: int | None = 1) -> int:
    """Return ``value`` as an int; raise TypeError unless it is an integer, and ValueError below ``minimum``, if any."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {shown(value)}{_hint_number(value)}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def compares_parameters(call: int) -> bool:
    """Return whether this call, from 1 on, compares the parameters of ranks: 1, 2, 4, 8, ... and every hundredth."""
    return call & (call - 1) == 0 or call % 100 == 0


def check_flag(name: str, value: Any) -> bool:
    """Return ``value`` as a bool; raise TypeError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def shown(value: object) -> str:
    """Return how an error text shows a value: numbers, strings and None as they are, shapes, and types of all else."""
    if isinstance(value, np.generic):
        return str(value)
    if value is None or isinstance(value, (str, int, float, complex)):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    if isinstance(value, (type, ModuleType)):
        return f"{'class' if isinstance(value, type) else 'module'} {value.__name__}"
    packages = {each.__module__.partition(".")[0] for each in type(value).__mro__}
    library = next((text for package, text in _LIBRARIES.items() if package in packages), "")
    name = f"{type(value).__name__}{library}"
    if inspect.isroutine(value):
        return f"{name} {value.__name__}"
    return f"{name} of shape {tuple(value.shape)}" if hasattr(value, "shape") else name


_LIBRARIES = {"keras": " of Keras", "torch": " of PyTorch", "jax": " of JAX"}
"""Libraries whose classes have the names of classes here. Keras is first: its models may be PyTorch's too."""


def _hint_number(value: object) -> str:
    """Return what to do if something else was passed instead of a number."""
    if inspect.isroutine(value):
        return f": call it, {value.__name__}()"
    return ": pass a number, such as len(array) or array.shape[1]" if getattr(value, "shape", ()) else ""


def check_unmasked(array: Any, name: str) -> None:
    """Raise TypeError for a NumPy masked array, because its mask would be lost."""
    if type(array) is np.ndarray or not isinstance(array, np.ndarray):
        return  # the usual case, before the import of numpy.ma
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a NumPy masked array, whose mask would be lost: pass a plain array (such as filled(0)), and "
            f"for statistics of some elements mask= (True selects an element){see('masked-arrays')}"
        )


def check_floating(array: NDArray[ScalarT], name: str, min_ndim: int = 0) -> NDArray[ScalarT]:
    """Return ``array``, or raise TypeError or ValueError unless it is a real floating ndarray."""
    check_unmasked(array, name)
    if type(array) is not np.ndarray and not isinstance(array, (np.ndarray, np.floating)):
        raise TypeError(
            f"{name} must be a NumPy array of float16, float32 or float64, got {type(array).__name__}{hint(array)}"
        )
    if array.dtype.type not in (np.float16, np.float32, np.float64):  # not by kind: float8 of ml_dtypes is "f" too
        raise TypeError(
            f"{name} must have dtype float16, float32 or float64, got {array.dtype}: "
            f"convert it, as by astype(numpy.float32){see('dtypes')}"
        )
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have {min_ndim} or more axes, got shape {array.shape}")
    return array if type(array) is np.ndarray else np.asarray(array)  # also converts scalars and subclasses


def hint(value: Any) -> str:
    """Return what to do if something else was passed instead of an array."""
    package = type(value).__module__.partition(".")[0]
    if package == "torch":
        return f" of PyTorch: call its .detach().numpy(){see('arrays-of-other-libraries')}"
    if isinstance(value, tuple) and any(map(callable, value)):
        return f": a layer returns its result and the backward, y, backward = layer(x){see('layers-return-two-values')}"
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        return f": convert it by numpy.asarray(){see('arrays-of-other-libraries')}"
    return ""


def check_input(x: NDArray[ScalarT], channel_axis: Any) -> tuple[NDArray[ScalarT], int]:
    """Return x and its channel axis counted from 0, or raise if x is not floating or has no such axis."""
    x = check_floating(x, "x", min_ndim=2)
    return x, check_axis(channel_axis, x.ndim)


def check_same_shape(array: Any, shape: tuple[int, ...], name: str = "dy") -> FloatArray:
    """Return ``array``, or raise unless it is a floating array of ``shape``."""
    checked = check_floating(array, name)
    if checked.shape != shape:
        raise ValueError(f"{name} must have y's shape {shape}, got {checked.shape}")
    return checked


def check_parameter(array: Any, name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return a weight, bias or statistic, or raise unless it is a floating array of ``shape``."""
    parameter = check_floating(array, name)
    if parameter.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {parameter.shape}{see('shapes-of-parameters')}")
    return parameter


def check_variances(var: NDArray[np.float64]) -> None:
    """Raise ValueError for a negative running variance, with which y would be NaN."""
    if (var < 0).any():
        channel = int(np.argmax(var < 0))
        raise ValueError(
            f"running_var must not be negative, got {var[channel]} for channel {channel}: are the arguments, or the "
            f"arrays of the state, in the right order?{see('states-that-do-not-fit')}"
        )


def check_eps(eps: float, name: str = "eps") -> float:
    """Return ``eps`` as a float, or raise unless it is finite and at least 0."""
    if isinstance(eps, bool) or not isinstance(eps, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {shown(eps)}")
    try:
        value = float(eps)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be finite and at least 0, got {eps!r}")
    return value + 0.0  # −0 becomes 0: ranks compare the bits


def check_reduction(reduction: str, samples: int = 0, ranks: int = 1) -> str:
    """Return ``reduction``, or raise if the name is unknown or exact sums are limited to fewer samples per rank."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"reduction must be 'exact' or 'float64', got {reduction!r}")
    if reduction == "exact" and samples > MAX_ROWS // ranks:
        raise ValueError(
            f"exact sums take at most {MAX_ROWS // ranks} samples on each rank (of {ranks}), got {samples}: "
            f"use reduction='float64'{see('limits-of-exact-sums')}"
        )
    return reduction


def check_name(name: str) -> str:
    """Return the ``name`` of a call, or raise TypeError unless it is a str."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    return str.__str__(name)  # other ranks may not have a subclass of this rank


_LAST_AXIS = (
    " (channels on the last axis: pass channel_axis=-1, to a layer in its constructor; a tensor of PyTorch as "
    f"x.movedim(-1, 1)){see('channels-last')}"
)


def check_channels(shape: tuple[int, ...], channel_axis: int, channels: int) -> None:
    """Raise ValueError unless x of ``shape`` has this number of channels."""
    axis = channel_axis % len(shape)
    if shape[axis] != channels:
        last = _LAST_AXIS if shape[-1] == channels else ""
        raise ValueError(f"x must have {channels} channels on axis {axis}, got shape {shape}{last}")


def check_groups(num_groups: int, channels: int, shape: tuple[int, ...] = ()) -> int:
    """Return ``num_groups``, or raise unless it divides the number of channels of x of ``shape``."""
    num_groups = check_integer("num_groups", num_groups)
    if channels % num_groups:
        last = _LAST_AXIS if shape and shape[-1] % num_groups == 0 else ""
        raise ValueError(f"num_groups must divide the {channels} channels of x, got {num_groups}{last}")
    return num_groups


def check_instances(shape: tuple[int, ...], channel_axis: int) -> None:
    """Raise ValueError if x of ``shape`` has 1 value per channel of each sample."""
    axis = channel_axis % len(shape)
    if math.prod([size for i, size in enumerate(shape) if i != axis][1:]) == 1:
        raise ValueError(
            f"instance normalization needs more than 1 value per channel of each sample, got shape {shape}: "
            f"use layer or group normalization{see('one-value-per-channel')}"
        )


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a real number: neither a bool nor a string."""
    scalar = getattr(value, "ndim", 0) == 0 and not isinstance(value, (bool, np.bool_))
    return scalar and hasattr(type(value), "__float__")


def check_momentum(value: Any) -> None:
    """Raise ValueError unless ``value`` is None or a number in [0, 1]."""
    if not (value is None or (is_number(value) and 0 <= float(value) <= 1)):
        raise ValueError(f"momentum must be in [0, 1] or None, got {shown(value)}")


def check_shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple of integers, or raise unless they are positive."""
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Iterable) else (normalized_shape,)
    if not shape or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in shape):
        raise TypeError(
            f"normalized_shape must be an integer or a sequence of integers, such as x.shape[1:], got "
            f"{shown(normalized_shape)}"
        )
    if min(shape) < 1:
        raise ValueError(f"normalized_shape must be positive, got {normalized_shape!r}")
    return tuple(int(n) for n in shape)


def check_trailing(shape: tuple[int, ...], normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple, or raise unless ``shape``, that of x, ends with it."""
    trailing = check_shape(normalized_shape)
    if shape[max(len(shape) - len(trailing), 0) :] != trailing:
        raise ValueError(f"x must end in normalized_shape {trailing}, got shape {shape}")
    return trailing


def check_count(count: int, shape: tuple[int, ...], protocol: Any = None, signature: Any = None) -> None:
    """Raise ValueError if ``count``, the number of values per channel over all ranks, does not define statistics.

    Collective if there is a protocol: all ranks raise or none. A count of 0 is an error only if x of some rank has
    values, none of which its mask selects.
    """
    if count == 1:
        raise ValueError(
            f"batch normalization needs more than 1 value per channel over all ranks, got 1 "
            f"(x of shape {shape} on this rank): drop a last batch of one sample, as drop_last=True of a Trainer or "
            "DataOrder does, or, if you evaluate, use running statistics: model.eval(), and track_running_stats=True "
            f"of the layer{see('one-value-per-channel')}"
        )
    unselected = float(0 not in shape)
    if protocol is not None:
        protocol.handshake(signature)
        buffer = protocol.sum_buffer(1, np.dtype(np.float64))
        buffer[0] = unselected
        protocol.sum(buffer)
        unselected = buffer[0]
    if unselected:
        raise ValueError(
            f"mask selects no value of x on any rank (x of shape {shape} on this rank): "
            f"True selects an element{see('masks-without-elements')}"
        )


def check_selected(counts: NDArray[np.integer], least: int, what: str) -> None:
    """Raise ValueError unless a mask selects ``least`` elements of every sample or row, whose counts are given."""
    few = counts < least
    if not few.any():
        return
    where = int(np.argmax(few))
    if counts[where] == 0:
        raise ValueError(
            f"mask selects no value of {what} {where}: True selects an element{see('masks-without-elements')}"
        )
    raise ValueError(
        f"instance normalization needs more than 1 value per channel of each sample, and mask selects 1 of {what} "
        f"{where}: use layer or group normalization{see('one-value-per-channel')}"
    )


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: FloatArray | None) -> None:
    """Raise unless a result of ``shape`` and ``dtype`` can be written to ``out`` without overwriting an input."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    check_unmasked(out, "out")
    if out.dtype != dtype:
        raise TypeError(f"out must have x's dtype in native byte order, {dtype}, got {out.dtype!r}")
    if out.shape != shape:
        raise ValueError(f"out must have x's shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable")
    if _may_overlap_itself(out):
        raise ValueError(
            f"out must not overlap itself, got strides {out.strides} for shape {out.shape}{see('output-arrays')}"
        )
    if any(array is not None and np.may_share_memory(out, array) for array in inputs):
        raise ValueError(
            "out must not overlap x, residual, dy or (with relu) y: pass an array with separate memory"
            f"{see('output-arrays')}"
        )


def _may_overlap_itself(array: NDArray[Any]) -> bool:
    """Return whether an axis has a stride within the elements of the axes of smaller strides."""
    extent = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride < extent:
            return array.size > 0
        extent += stride * (size - 1)
    return False


def check_axis(axis: int, ndim: int, name: str = "channel_axis") -> int:
    """Return ``axis`` counted from 0, or raise if an array of ``ndim`` axes has no such axis."""
    axis = check_integer(name, axis, None)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}) for {ndim} axes, got {axis}")
    return axis % ndim
