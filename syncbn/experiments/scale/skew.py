"""Models of skew, the delays with which ranks enter a collective call.

A collective call completes only after its last rank has entered. Let rank i enter X_i later than the mean, all X_i
being independent with the distribution F. The mean wait is then E[max(X_1 … X_P)], the mean of F^P, in every call.
Hoefler, Schneider & Lumsdaine 2010, Characterizing the influence of system noise on large-scale applications by
simulation, SC '10, show by simulation on up to a million ranks that such delays, and not the network, bound collectives
at scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np


class Skew(Protocol):
    """A distribution of delays."""

    def wait(self, ranks: int) -> float:
        """Return the expected microseconds that the mean rank waits for the last of ``ranks`` ranks."""


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

    # Beyond 40 both tails underflow in float64; splitting the interval makes quad resolve the edge at √(2 ln P).
    edge = float(np.sqrt(2 * np.log(ranks))) + 1
    return float(quad(tails, 0, edge, epsabs=1e-12)[0] + quad(tails, edge, 40, epsabs=1e-12)[0])


@dataclass(frozen=True)
class NormalSkew:
    """Normal delays with standard deviation σ, whose expected maximum is σ·m_P.

    Attributes
    ----------
    sigma : float
        σ in microseconds.
    """

    sigma: float

    def wait(self, ranks: int) -> float:
        """Return σ·m_P."""
        return self.sigma * expected_maximum(ranks) if self.sigma else 0.0


@dataclass(frozen=True)
class MeasuredSkew:
    """Delays drawn from N measured ones, whose expected maximum is Σ x₍ₖ₎·[(k/N)^P − ((k−1)/N)^P] in sorted order.

    It cannot exceed the largest measured delay, so it is too low if P is much larger than N.

    Attributes
    ----------
    delays : sequence of float
        Microseconds relative to the mean, negative for ranks that are early.
    """

    delays: Sequence[float]

    def wait(self, ranks: int) -> float:
        """Return the expected maximum of P draws, 0 for one rank."""
        if ranks == 1:
            return 0.0
        share = (np.arange(len(self.delays) + 1) / len(self.delays)) ** ranks
        return float(np.sort(self.delays) @ np.diff(share))


NO_SKEW = NormalSkew(0.0)
