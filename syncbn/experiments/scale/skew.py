"""Stragglers: a collective begins when the last rank has come.

Let rank i come X_i later than the mean, independent and with one distribution F. The mean rank then waits
for E[max(X_1 … X_P)], the mean of F^P, in every call. Hoefler, Schneider & Lumsdaine 2010, Characterizing the
influence of system noise on large-scale applications by simulation, SC '10, show by simulation on up to a
million ranks that such delays, and not the network, bound collectives at scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np


class Skew(Protocol):
    """How much later than the mean the last of some ranks comes."""

    def wait(self, ranks: int) -> float:
        """Return the expected microseconds."""


@cache
def expected_maximum(ranks: int) -> float:
    r"""Return the expected maximum of P independent standard normal numbers.

    .. math:: m_P = \int_0^\infty 1-\Phi(x)^P-\Phi(-x)^P\,dx

    This is the mean of the largest order statistic (David & Nagaraja 2003, Order Statistics, 3rd ed., section 3.1):
    m₁ = 0, m₂ = 1/√π, m₃ = 3/(2√π); √(2 ln P), to which it tends for very large P (Cramér 1946), is above it.

    Parameters
    ----------
    ranks : int
        P.
    """
    if ranks == 1:
        return 0.0
    from scipy.integrate import quad
    from scipy.special import log_ndtr

    def tails(x: float) -> float:
        below, above = np.exp(ranks * log_ndtr((x, -x)))
        return float(1 - below - above)

    # Beyond 40 both tails are below the least float64; the break lets quad see the edge at √(2 ln P).
    edge = float(np.sqrt(2 * np.log(ranks))) + 1
    return float(quad(tails, 0, edge, epsabs=1e-12)[0] + quad(tails, edge, 40, epsabs=1e-12)[0])


@dataclass(frozen=True)
class NormalSkew:
    """Delays that are normal with standard deviation σ: σ·m_P.

    Attributes
    ----------
    sigma : float
        Microseconds.
    """

    sigma: float

    def wait(self, ranks: int) -> float:
        """Return σ·m_P."""
        return self.sigma * expected_maximum(ranks) if self.sigma else 0.0


@dataclass(frozen=True)
class MeasuredSkew:
    """Delays drawn from those that were measured: Σ x₍ₖ₎·[(k/N)^P − ((k−1)/N)^P] over the sorted N.

    It can't exceed the largest of them, so it is too low where P is much larger than N.

    Attributes
    ----------
    delays : sequence of float
        Microseconds later (or, negative, earlier) than the mean.
    """

    delays: Sequence[float]

    def wait(self, ranks: int) -> float:
        """Return the expected maximum of P draws, 0 for one rank."""
        if ranks == 1:
            return 0.0
        share = (np.arange(len(self.delays) + 1) / len(self.delays)) ** ranks
        return float(np.sort(self.delays) @ np.diff(share))


NO_SKEW = NormalSkew(0.0)
