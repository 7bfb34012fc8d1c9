"""Sums of any numbers over all ranks, exact before they are rounded once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_axis, check_floating
from syncbn._core.conversion import c_contiguous
from syncbn._core.kernels import kernels
from syncbn.reference._fixed_point import LIMB_BITS
from syncbn.typing import Float64Array, FloatArray, Int64Array


class ExactSum:
    """The steps of one rank before, between and after the messages of an exact sum.

    Parameters
    ----------
    array : ndarray of float16, float32 or float64
        Values of this rank.
    axis : int, tuple of int, or None
        Axes over which they are summed; None means all.

    Attributes
    ----------
    shape : tuple of int
        Shape of the result, which must be that of all ranks.
    dtype : dtype
        Dtype of the result.
    """

    def __init__(self, array: FloatArray, axis: int | tuple[int, ...] | None) -> None:
        array = check_floating(array, "array")
        axes = _checked_axes(axis, array.ndim)
        kept = [i for i in range(array.ndim) if i not in axes]
        self.dtype: np.dtype[Any] = array.dtype.newbyteorder("=")
        self.shape = tuple(array.shape[i] for i in kept)
        values = array.transpose(*kept, *axes) if kept else array.ravel("K")  # without a copy in any memory order
        rows = math.prod(self.shape)
        self._values_rn = c_contiguous(values).reshape(rows, array.size // max(rows, 1))
        self._lowest = 0

    def find_range(self, range_2: Float64Array) -> None:
        """Write the range of the exponents of this rank's values, which ranks combine by MAX."""
        kernels.exact_sum_range(self._values_rn, range_2)

    def limbs(self, range_2: Float64Array) -> Int64Array:
        """Return this rank's sums as integers, which ranks add, given the range of all ranks."""
        highest, lowest = (int(range_2[0]), -int(range_2[1])) if np.isfinite(range_2[0]) else (0, 0)
        self._lowest = lowest
        limbs = (highest - lowest) // LIMB_BITS + 3  # two for the largest value, and one for the carry
        limbs_rl = np.empty((len(self._values_rn), limbs + 1), np.int64)
        kernels.exact_sum_limbs(self._values_rn, lowest, limbs_rl)
        return limbs_rl

    def rounded(self, limbs_rl: Int64Array) -> NDArray[Any]:
        """Return the sums, given the integers of all ranks, which are overwritten."""
        totals = np.empty(len(limbs_rl))
        kernels.exact_sum_round(limbs_rl, self._lowest, np.finfo(self.dtype).nmant + 1, totals)
        with np.errstate(all="ignore"):  # a sum beyond the largest number is infinite
            return totals.astype(self.dtype).reshape(self.shape)


def _checked_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes counted from 0; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(check_axis(each, ndim, "axis") for each in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis must not contain an axis twice, got {axis!r}")
    return axes
