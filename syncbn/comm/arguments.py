"""Checks of the arguments of a communicator's methods."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_unmasked, hint, shown
from syncbn.comm.signature import CollectiveSignature
from syncbn.comm.transport import Op, Types
from syncbn.pitfalls import see


def is_timeout(seconds: object) -> bool:
    """Return whether ``seconds`` is None or a positive number."""
    return seconds is None or (isinstance(seconds, (int, float, np.integer, np.floating)) and bool(seconds > 0))


def check_timeout(seconds: float | None) -> float | None:
    """Return ``seconds``, or raise ValueError unless it is None or a positive number."""
    if is_timeout(seconds):
        return seconds
    raise ValueError(f"timeout must be positive seconds or None, got {seconds!r}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, (str, int, np.integer)) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_array(array: object, types: Types, op: Op | None = None) -> None:
    """Raise unless ``array`` can be sent and received in place, and combined by ``op`` if that is given."""
    if not isinstance(array, np.ndarray):
        advice = hint(array) or ": pass an array of one shape and dtype on all ranks, numpy.array([x]) for a number"
        raise TypeError(f"expected an array, got {shown(array)}{advice}")
    check_unmasked(array, "array")
    if array.dtype.type not in types.numpy or not array.dtype.isnative:  # ml_dtypes has other types of kind "f"
        raise TypeError(f"{types.library} has no type for {array.dtype}: convert the array first{see('messages')}")
    if op and array.dtype.kind not in ("iufc" if op == "sum" else "iuf"):
        raise TypeError(f"{types.library} has no {op} of {array.dtype}: convert the array first{see('messages')}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(
            f"expected a contiguous writable array, got one of shape {array.shape} that is not: "
            f"numpy.ascontiguousarray() makes a copy, which then has the result{see('messages')}"
        )


def array_signature(operation: str, array: NDArray[Any], **options: Any) -> CollectiveSignature:
    """Return the signature of an operation on an array."""
    arguments = {"elements": array.size, "dtype": str(array.dtype), **options}
    return CollectiveSignature(operation, tuple(arguments.items()), has_data=True)
