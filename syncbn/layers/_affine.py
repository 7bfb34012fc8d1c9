"""Weights and biases of normalizers: γ = 1 and β = 0, spared by weight decay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from syncbn.layers.parameter import Parameter
from syncbn.typing import FloatArray


def floating_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` in native byte order, or raise TypeError when it isn't float16, float32 or float64."""
    found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if found.name not in ("float16", "float32", "float64"):
        raise TypeError(f"dtype must be float16, float32 or float64, got {found}")
    return found


def gamma(shape: int | tuple[int, ...], dtype: DTypeLike, present: bool = True) -> Parameter | None:
    """Return γ = 1, or None."""
    return Parameter(np.ones(shape, floating_dtype(dtype)), decay=False) if present else None


def beta(shape: int | tuple[int, ...], dtype: DTypeLike, present: bool = True) -> Parameter | None:
    """Return β = 0, or None."""
    return Parameter(np.zeros(shape, floating_dtype(dtype)), decay=False) if present else None


def value_of(parameter: Parameter | None) -> FloatArray | None:
    """Return a parameter's array, or None where there is none."""
    return None if parameter is None else parameter.data


def add_grads(*pairs: tuple[Parameter | None, FloatArray | None]) -> None:
    """Add each gradient to its parameter, where both are there."""
    for parameter, grad in pairs:
        if parameter is not None and grad is not None:
            parameter.add_grad(grad)
