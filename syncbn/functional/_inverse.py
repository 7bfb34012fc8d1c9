"""1/√(var + eps), also where float64 can't hold the squares that a variance is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syncbn.typing import BoolArray, Float64Array

LEAST = 2.0**-1000
"""A smaller variance is made of squares that have lost digits to underflow: float64 ends at 2⁻¹⁰⁷⁴."""


def inverse_std(var: Float64Array, eps: float, constant: Callable[[], BoolArray]) -> Float64Array:
    """Return 1/√(var + eps) of each row or group.

    It is NaN where squares overflowed or underflowed, since wrong digits or zeros might pass for results. Values
    that are ``constant()`` have no squares to lose: with eps = 0, 0 makes their deviations from the mean 0.
    """
    total = var + eps
    inverse: Float64Array = 1 / np.sqrt(total)
    inverse[np.isinf(total)] = np.nan
    small = total < LEAST
    if small.any():
        inverse[total == 0] = 0.0
        inverse[small & ~constant()] = np.nan
    return inverse
