"""Dtypes and memory of what goes to kernels and comes from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn.typing import Float64Array, FloatArray

_FLOAT32 = np.dtype(np.float32)


def work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what kernels compute values of ``dtype`` in: float32 for float16."""
    return _FLOAT32 if dtype.itemsize < 4 else dtype


def contiguous(array: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Return ``array`` contiguous, aligned and in ``dtype``; infinite where that can hold no more."""
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "A"])


def to_dtype(array: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Return ``array`` in ``dtype``; what float16 can't hold becomes infinite without a warning."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def parameter_gradients(
    gradients_2c: Float64Array, weight: FloatArray | None, bias: FloatArray | None
) -> tuple[FloatArray | None, FloatArray | None]:
    """Return the gradients of weight and bias in their shape and dtype, None for one that isn't there."""
    if weight is None and bias is None:
        return None, None
    with np.errstate(over="ignore", under="ignore"):  # infinities say it
        dweight = None if weight is None else gradients_2c[0].reshape(weight.shape).astype(weight.dtype)
        return dweight, None if bias is None else gradients_2c[1].reshape(bias.shape).astype(bias.dtype)
