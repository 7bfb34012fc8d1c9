"""How the terms of all ranks become statistics: exactly in integers, or in plain float64.

Both have the same two steps: ``moments`` of the forward, and ``totals`` (Σ dy and Σ dy·(x − μ)) of the
backward. Each is one agreement (the header, and in exact arithmetic the ranges of the terms) and one
allreduce of sums.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from syncbn._dispatch.gradients import GradientTerms
from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.moments import MomentTerms
from syncbn.comm import Call, Communicator
from syncbn.moments import Moments
from syncbn.typing import Float64Array

Reduction = Literal["exact", "float64"]

NO_MAXIMA = np.empty(0)


class BatchMoments(NamedTuple):
    """The moments over all ranks, 1/√(var + eps), and the number of the call that brought them."""

    moments: Moments
    invstd: Float64Array
    number: int


class Totals(NamedTuple):
    """Σ dy and Σ dy·(x − μ), over all ranks and of this rank alone; shape (2, C)."""

    everywhere: Float64Array
    here: Float64Array


class Exact:
    """Integers on a grid that the range of all ranks' terms gives: no rounding, so no order."""

    def moments(self, terms: MomentTerms, channels: int, eps: float, comm: Communicator, call: Call) -> BatchMoments:
        """Combine the terms of all ranks. Collective."""
        range_w = np.empty(1 + 2 * channels)
        terms.ranges(range_w)
        number = comm.agree(call, range_w)
        words = np.empty(1 + 4 * channels, np.int64)
        words[0] = terms.count
        words_4c = words[1:].reshape(4, channels)
        terms.exact_sums(range_w, words_4c)
        comm.allreduce_agreed(words)
        moments, invstd = _no_moments(int(words[0]), channels)
        if moments.count:
            kernels.moments_from_sums(words_4c, range_w, moments.count, eps, moments.mean, moments.var, invstd)
        return BatchMoments(moments, invstd, number)

    def totals(self, terms: GradientTerms, channels: int, comm: Communicator, call: Call) -> Totals:
        """Combine the terms of all ranks. Collective."""
        largest_2c = np.empty((2, channels))
        terms.largest(largest_2c)
        comm.agree(call, largest_2c)
        words = np.empty((2, 4, channels), np.int64)  # everywhere, here
        terms.exact_sums(largest_2c, words[1])
        words[0] = words[1]
        comm.allreduce_agreed(words[0])
        totals = np.empty((2, 2, channels))
        kernels.totals_from_sums(words, largest_2c, totals)
        return Totals(*totals)


class Float64:
    """float64 sums, which depend in their last bits on the number of ranks and on their order."""

    def moments(self, terms: MomentTerms, channels: int, eps: float, comm: Communicator, call: Call) -> BatchMoments:
        """Combine the terms of all ranks. Collective."""
        number = comm.agree(call, NO_MAXIMA)
        words = np.empty(1 + 4 * channels)
        words[0] = terms.count
        words_4c = words[1:].reshape(4, channels)
        terms.float64_sums(words_4c)
        comm.allreduce_agreed(words)
        moments, invstd = _no_moments(int(words[0]), channels)
        if moments.count:
            kernels.moments_from_sums_float64(words_4c, moments.count, eps, moments.mean, moments.var, invstd)
        return BatchMoments(moments, invstd, number)

    def totals(self, terms: GradientTerms, channels: int, comm: Communicator, call: Call) -> Totals:
        """Combine the terms of all ranks. Collective."""
        comm.agree(call, NO_MAXIMA)
        here = np.empty((2, channels))
        terms.float64_sums(here)
        everywhere = here.copy()
        comm.allreduce_agreed(everywhere)
        return Totals(everywhere, here)


def _no_moments(count: int, channels: int) -> tuple[Moments, Float64Array]:
    return Moments(count, np.zeros(channels), np.zeros(channels)), np.zeros(channels)


REDUCTIONS: dict[str, Exact | Float64] = {"exact": Exact(), "float64": Float64()}


def find_reduction(reduction: str) -> Exact | Float64:
    """Return the reduction of that name, or raise ValueError."""
    try:
        return REDUCTIONS[reduction]
    except (KeyError, TypeError):
        raise ValueError(f"reduction must be 'exact' or 'float64', got {reduction!r}") from None
