"""Count, mean and variance of every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from syncbn.typing import Float64Array


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

    See Also
    --------
    syncbn.functional.batch_norm : The function that returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> _, moments, _ = F.batch_norm(np.array([[1.0, 10.0], [3.0, 10.0]]))
    >>> moments.count, moments.mean, moments.var
    (2, array([ 2., 10.]), array([1., 0.]))
    >>> moments.unbiased_var
    array([2., 0.])
    """

    count: int
    mean: Float64Array
    var: Float64Array

    @property
    def unbiased_var(self) -> Float64Array:
        """Unbiased variance, Σ(x−μ)²/(M−1); the biased variance, which is 0, if M = 1."""
        with np.errstate(all="ignore"):
            return self.var * self.bias_correction

    @property
    def bias_correction(self) -> float:
        """Unbiased variance divided by the biased one: M/(M−1), or 1 if M = 1."""
        return self.count / max(self.count - 1, 1)


@np.errstate(all="ignore")  # infinities and NaN are visible in the result
def pool(moments: Sequence[Moments]) -> Moments:
    """Return the moments of the values of all batches together, of which there is at least one.

    The bits do not depend on the order of the batches: the terms of a sum do not, and are added without rounding.
    """
    moments = [batch for batch in moments if batch.count] or moments[:1]
    if len(moments) == 1:
        return moments[0]
    count = sum(batch.count for batch in moments)
    share_b = np.array([[batch.count] for batch in moments], np.float64)
    mean_bc, var_bc = (np.array([getattr(batch, name) for batch in moments]) for name in ("mean", "var"))
    origin = mean_bc.min(axis=0)  # equal means have an exact mean
    mean = origin + _sum_batches(share_b * (mean_bc - origin)) / count
    origin = var_bc.min(axis=0)
    var = origin + _sum_batches(share_b * ((var_bc - origin) + (mean_bc - mean) ** 2)) / count
    return Moments(count, mean, var)


def _sum_batches(terms_bc: Float64Array) -> Float64Array:
    """Return the sums over batches, correctly rounded."""
    return np.array([_sum(terms_b) for terms_b in terms_bc.T.tolist()])


def _sum(terms: list[float]) -> float:
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):  # beyond float64, or inf − inf
        return math.nan
