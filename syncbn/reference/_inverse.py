"""1/√(var + eps), also where float64 can't hold the squares that a variance is made of."""

from __future__ import annotations

import numpy as np

from syncbn.typing import BoolArray, Float64Array

LEAST = 2.0**-1000
"""A smaller variance is made of squares that have lost digits to underflow: float64 ends at 2⁻¹⁰⁷⁴."""


@np.errstate(all="ignore")
def inverse_std(total: Float64Array, constant: BoolArray) -> Float64Array:
    """Return 1/√total, total = var + eps; NaN where squares overflowed or underflowed.

    Values that are ``constant`` have no squares to lose: with eps = 0, 0 makes their deviations from the mean 0.
    """
    inverse: Float64Array = 1 / np.sqrt(total)
    inverse[total == 0] = 0.0
    inverse[np.isinf(total) | ((total < LEAST) & ~constant)] = np.nan
    return inverse
