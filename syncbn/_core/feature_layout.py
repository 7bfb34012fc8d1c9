"""An array as the kernels over features see it: rows of trailing axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syncbn._core.conversion import contiguous, to_dtype, work_dtype
from syncbn.typing import FloatArray


@dataclass(frozen=True)
class FeatureLayout:
    """How an array maps to (R, D) memory: D = all of the trailing ``normalized_shape``, R the axes before.

    Attributes
    ----------
    shape, dtype
        Of the array.
    features : int
        D.
    channels_last : bool
        Whether the array is in channels-last memory (axis 1 last); results go back to it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    features: int
    channels_last: bool

    @classmethod
    def of(cls, x: FloatArray, normalized_shape: int | Sequence[int]) -> FeatureLayout:
        """Find the layout of ``x``, or raise ValueError when it doesn't end in ``normalized_shape``."""
        trailing = shape_tuple(normalized_shape)
        if x.shape[max(x.ndim - len(trailing), 0) :] != trailing:
            raise ValueError(f"x must end in normalized_shape {trailing}, got shape {x.shape}")
        last = x.ndim > 2 and not x.flags.c_contiguous and np.moveaxis(x, 1, -1).flags.c_contiguous
        return cls(x.shape, x.dtype.newbyteorder("="), math.prod(trailing), last)

    def view(self, x: FloatArray) -> FloatArray:
        """Return ``x`` as (R, D) in C order, copied only if it must be."""
        return contiguous(x, work_dtype(self.dtype)).reshape(-1, self.features)

    def restore(self, result: FloatArray) -> FloatArray:
        """Return a kernel's result in the array's own shape, dtype and memory order."""
        y = to_dtype(result.reshape(self.shape), self.dtype)
        if self.channels_last:
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(y, 1, -1)), -1, 1)
        return y


def shape_tuple(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple of positive integers, or raise."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not shape or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in shape):
        raise TypeError(f"normalized_shape must be an integer or a sequence of integers, got {normalized_shape!r}")
    if min(shape) < 1:
        raise ValueError(f"normalized_shape must be positive, got {normalized_shape!r}")
    return tuple(int(n) for n in shape)
