"""Count, mean and variance of every channel, and the update of moving averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syncbn.typing import Float64Array, FloatArray


@dataclass(eq=False, slots=True)
class Moments:
    """Statistics of one batch over all ranks of a communicator.

    Attributes
    ----------
    count : int
        Number of values per channel over all ranks, M.
    mean : ndarray of float64, shape (C,)
        Mean. Read-only, because the backward reads the same memory.
    var : ndarray of float64, shape (C,)
        Biased variance, Σ(x−μ)²/M. Read-only.
    """

    count: int
    mean: Float64Array
    var: Float64Array

    @property
    def unbiased_var(self) -> Float64Array:
        """Unbiased variance, Σ(x−μ)²/(M−1); the biased variance, which is 0, if M = 1."""
        with np.errstate(all="ignore"):
            return self.var * (self.count / max(self.count - 1, 1))


@np.errstate(all="ignore")  # infinities and NaN are visible in the result
def update_average(average: FloatArray, value: Float64Array, momentum: float) -> None:
    """Update a moving average in place: average ← (1 − momentum)·average + momentum·value.

    It is computed in float64 and rounded once to the dtype of ``average`` (Ioffe & Szegedy 2015, Algorithm 2).
    """
    average[...] = (1.0 - momentum) * average.astype(np.float64) + momentum * value
