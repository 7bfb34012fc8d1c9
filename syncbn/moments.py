"""Count, mean and variance of every channel, and the update of running statistics."""

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
def update_running(
    running_mean: FloatArray,
    running_var: FloatArray,
    moments: Moments,
    momentum: float,
) -> None:
    """Update the running statistics with the ``moments`` of a batch, in place.

    running ← (1 − momentum)·running + momentum·batch, computed in float64 and rounded once to the dtype of
    the arrays. The variance of the batch is unbiased with the count of all ranks (Ioffe & Szegedy 2015,
    Algorithm 2). A batch without values (count 0) changes nothing.
    """
    if moments.count == 0:
        return
    for running, batch in ((running_mean, moments.mean), (running_var, moments.unbiased_var)):
        running[...] = (1.0 - momentum) * running.astype(np.float64) + momentum * batch
