"""Means over seeds and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean : float
    half_width : float or None
        Half the width of the interval; None for a single value.
    count : int
        Number of values.
    """

    mean: float
    half_width: float | None
    count: int

    def overlaps(self, other: Interval) -> bool | None:
        """Return whether the two intervals have a point in common, None if one of them is unknown."""
        if self.half_width is None or other.half_width is None:
            return None
        return abs(self.mean - other.mean) <= self.half_width + other.half_width


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return mean ± t·s/√n, t the quantile of Student's distribution with n − 1 degrees of freedom.

    Parameters
    ----------
    values : sequence of float
        At least one.
    confidence : float
        Probability that the interval contains the true mean, if the values are normally distributed.

    Raises
    ------
    ValueError
        ``values`` is empty.

    References
    ----------
    Student 1908, The probable error of a mean.
    """
    n = len(values)
    if n == 0:
        raise ValueError("an interval needs at least one value, got none")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, None, 1)
    from scipy.special import stdtrit

    t = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return Interval(mean, t * float(np.std(values, ddof=1)) / math.sqrt(n), n)
