"""Models of the time of one step of a collective, in which every rank sends and receives a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Link(Protocol):
    """A model of point-to-point messages."""

    def step(self, nbytes: float) -> float:
        """Return the microseconds until a message of ``nbytes`` has arrived and the next can be sent."""


@dataclass(frozen=True)
class Hockney:
    """T(n) = α + nβ.

    Attributes
    ----------
    alpha : float
        Microseconds of an empty message.
    beta : float
        Microseconds per byte.

    References
    ----------
    Hockney 1994, The communication challenge for MPP: Intel Paragon and Meiko CS-2, Parallel Computing 20.
    """

    alpha: float
    beta: float

    def step(self, nbytes: float) -> float:
        """Return α + nβ."""
        return self.alpha + nbytes * self.beta


@dataclass(frozen=True)
class LogGP:
    """T(n) = max(L + 2o, g) + (n − 1)G.

    A step is one message, whose first byte arrives after L + 2o; the next step begins after the gap g at the
    earliest. With g ≤ L + 2o this is Hockney's model with
    α = L + 2o − G and β = G.

    Attributes
    ----------
    latency : float
        L, microseconds in the network.
    overhead : float
        o, microseconds of processing a message at sender and receiver each.
    gap : float
        g, minimum microseconds between two messages of one rank.
    gap_per_byte : float
        G, microseconds per further byte.

    References
    ----------
    Alexandrov, Ionescu, Schauser & Scheiman 1995, LogGP: incorporating long messages into the LogP model,
    SPAA '95.
    """

    latency: float
    overhead: float
    gap: float
    gap_per_byte: float

    def step(self, nbytes: float) -> float:
        """Return max(L + 2o, g) + (n − 1)G."""
        first_byte = max(self.latency + 2 * self.overhead, self.gap)
        return first_byte + max(nbytes - 1, 0) * self.gap_per_byte
