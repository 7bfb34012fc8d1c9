"""How rows become statistics of all ranks: exactly in integers, or in plain float64.

Both have the same two steps. ``moments`` of the forward: Σx and Σx²; ``totals`` of the backward: Σ dy
and Σ dy·(x − μ). Each step is one agreement (the header, and in exact arithmetic the exponents of the
largest rows) and one allreduce of sums.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from syncbn._dispatch.channels import Rows
from syncbn._dispatch.kernels import kernels
from syncbn.comm import Call, Communicator
from syncbn.moments import Moments
from syncbn.typing import Float64Array

Reduction = Literal["exact", "float64"]

NO_MAXIMA = np.empty(0, np.int16)


class BatchMoments(NamedTuple):
    """The moments over all ranks, 1/√(var + eps), and the number of the call that brought them."""

    moments: Moments
    invstd: Float64Array
    number: int


class Totals(NamedTuple):
    """Column sums of row values, over all ranks and of this rank alone; shape (C,)."""

    everywhere: Float64Array
    here: Float64Array


class Exact:
    """Integers on a grid that the largest row of all ranks gives: no rounding, so no order."""

    def moments(self, rows: Rows, count: int, eps: float, comm: Communicator, call: Call) -> BatchMoments:
        """Combine the rows of all ranks. Collective."""
        channels = rows.first.shape[1]
        exponents = np.empty((channels, 2), np.int16)
        kernels.moment_exponents(*rows, exponents)
        number = comm.agree(call, exponents)
        words = np.empty(1 + 5 * channels, np.int64)
        words[0] = count
        sums = words[1:].reshape(channels, 5)
        kernels.moment_sums(*rows, exponents, sums)
        comm.allreduce_agreed(words)
        moments = _empty_moments(int(words[0]), channels)
        invstd = np.zeros(channels)
        if moments.count:
            kernels.moments_from_sums(sums, exponents, moments.count, eps, moments.mean, moments.var, invstd)
        return BatchMoments(moments, invstd, number)

    def totals(self, values: tuple[Float64Array, Float64Array], comm: Communicator, call: Call) -> tuple[Totals, ...]:
        """Sum each array of row values over its rows, on all ranks. Collective."""
        channels = values[0].shape[1]
        exponents = np.empty((2, channels), np.int16)
        for value, exponent in zip(values, exponents, strict=True):
            kernels.value_exponents(value, exponent)
        comm.agree(call, exponents)
        here = np.empty((2, channels, 2), np.int64)
        for value, exponent, words in zip(values, exponents, here, strict=True):
            kernels.value_sums(value, exponent, words)
        everywhere = here.copy()
        comm.allreduce_agreed(everywhere)
        totals = []
        for k in range(2):
            both = Totals(np.empty(channels), np.empty(channels))
            kernels.totals_from_sums(everywhere[k], exponents[k], both.everywhere)
            kernels.totals_from_sums(here[k], exponents[k], both.here)
            totals.append(both)
        return tuple(totals)


class Float64:
    """float64 sums, which depend in their last bits on the number of ranks and on their order."""

    def moments(self, rows: Rows, count: int, eps: float, comm: Communicator, call: Call) -> BatchMoments:
        """Combine the rows of all ranks. Collective."""
        channels = rows.first.shape[1]
        number = comm.agree(call, NO_MAXIMA)
        words = np.empty(1 + 4 * channels)
        words[0] = count
        sums = words[1:].reshape(channels, 4)
        kernels.moment_sums_float64(*rows, sums)
        comm.allreduce_agreed(words)
        moments = _empty_moments(int(words[0]), channels)
        invstd = np.zeros(channels)
        if moments.count:
            kernels.moments_from_sums_float64(sums, moments.count, eps, moments.mean, moments.var, invstd)
        return BatchMoments(moments, invstd, number)

    def totals(self, values: tuple[Float64Array, Float64Array], comm: Communicator, call: Call) -> tuple[Totals, ...]:
        """Sum each array of row values over its rows, on all ranks. Collective."""
        comm.agree(call, NO_MAXIMA)
        here = np.stack([value.sum(axis=0) for value in values])
        everywhere = here.copy()
        comm.allreduce_agreed(everywhere)
        return tuple(Totals(everywhere[k], here[k]) for k in range(2))


def _empty_moments(count: int, channels: int) -> Moments:
    return Moments(count, np.zeros(channels), np.zeros(channels))


REDUCTIONS: dict[str, Exact | Float64] = {"exact": Exact(), "float64": Float64()}


def find_reduction(reduction: str) -> Exact | Float64:
    """Return the reduction of that name, or raise ValueError."""
    try:
        return REDUCTIONS[reduction]
    except (KeyError, TypeError):
        raise ValueError(f"reduction must be 'exact' or 'float64', got {reduction!r}") from None
