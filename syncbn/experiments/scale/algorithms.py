"""The steps of allreduce algorithms.

The costs are those of Thakur, Rabenseifner & Gropp 2005, Optimization of collective communication operations
in MPICH, IJHPCA 19(1), for n bytes on P ranks with γ per byte of additions:

    recursive doubling   lg P·(α + nβ + nγ)
    Rabenseifner         2·lg P·α + (P−1)/P·(2nβ + nγ)
    ring                 2(P−1)·α + (P−1)/P·(2nβ + nγ)

If P is not a power of two, the first two run on 2^⌊lg P⌋ ranks: before, each of the other ranks sends its numbers
to a neighbour, which adds them, and afterwards receives the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

SHORT_BYTES = 2048
"""Largest message for which MPICH uses recursive doubling (MPIR_CVAR_IALLREDUCE_SHORT_MSG_SIZE)."""


class Steps(NamedTuple):
    """Consecutive equal steps of an algorithm.

    Attributes
    ----------
    repeats : int
    nbytes : float
        Bytes that each rank sends in each step.
    added : float
        Bytes that each rank adds in each step.
    """

    repeats: int
    nbytes: float
    added: float


def recursive_doubling(ranks: int, nbytes: float) -> tuple[Steps, ...]:
    """Return lg P steps, in each of which partners exchange and add all numbers."""
    rounds, fold = _fold(ranks, nbytes)
    return (*fold, Steps(rounds, nbytes, nbytes))


def rabenseifner(ranks: int, nbytes: float) -> tuple[Steps, ...]:
    """Return the steps of a reduce-scatter by recursive halving, then of an allgather by recursive doubling."""
    rounds, fold = _fold(ranks, nbytes)
    halves = [nbytes / 2**step for step in range(1, rounds + 1)]
    return (*fold, *(Steps(1, half, half) for half in halves), *(Steps(1, half, 0.0) for half in reversed(halves)))


def ring(ranks: int, nbytes: float) -> tuple[Steps, ...]:
    """Return the P−1 steps of a reduce-scatter on a ring and the P−1 steps of an allgather, with n/P bytes each."""
    return (Steps(ranks - 1, nbytes / ranks, nbytes / ranks), Steps(ranks - 1, nbytes / ranks, 0.0))


def as_mpich(ranks: int, nbytes: float) -> tuple[Steps, ...]:
    """Return the steps of the algorithm that MPICH selects for numbers of 8 bytes."""
    short = nbytes <= SHORT_BYTES or nbytes / 8 < 2 ** _rounds(ranks)
    return (recursive_doubling if short else rabenseifner)(ranks, nbytes)


Algorithm = Callable[[int, float], Iterable[Steps]]

ALGORITHMS: dict[str, Algorithm] = {
    "recursive doubling": recursive_doubling,
    "Rabenseifner": rabenseifner,
    "ring": ring,
    "as MPICH": as_mpich,
}


def _rounds(ranks: int) -> int:
    return ranks.bit_length() - 1


def _fold(ranks: int, nbytes: float) -> tuple[int, tuple[Steps, ...]]:
    """Return ⌊lg P⌋ and the steps before and after for ranks beyond this power of two."""
    rounds = _rounds(ranks)
    return rounds, () if ranks == 2**rounds else (Steps(1, nbytes, nbytes), Steps(1, nbytes, 0.0))
