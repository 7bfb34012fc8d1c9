"""Fits of the parameters of the model to measured times by least squares of relative errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from syncbn.experiments.scale.algorithms import Algorithm
from syncbn.experiments.scale.links import Hockney
from syncbn.experiments.scale.messages import DIRECTIONS, layer_messages
from syncbn.experiments.scale.model import Machine, allreduce_time
from syncbn.experiments.scale.skew import expected_maximum


class Timing(NamedTuple):
    """The time of an allreduce on a number of ranks."""

    ranks: int
    nbytes: int
    microseconds: float


def fit_machine(timings: Sequence[Timing], algorithm: Algorithm, gamma: float = 0.0) -> Machine:
    """Return the machine whose non-negative κ, α and β fit the times of allreduces best.

    The fit minimizes Σ((predicted − measured)/measured)², so that small messages count as much as large ones. Times
    on one rank consist of κ only; without them κ is 0, because it cannot be separated from α. γ must be given,
    because these times depend only on β + γ.

    Parameters
    ----------
    timings : sequence of Timing
        Times, at least one of them on 2 or more ranks.
    algorithm : callable
        Algorithm that the MPI library uses.
    gamma : float
        Microseconds to add one byte.

    Raises
    ------
    ValueError
        There is no time on several ranks.
    """
    if not any(timing.ranks > 1 for timing in timings):
        raise ValueError("a fit needs times of at least 2 ranks, got none")
    has_one_rank = any(timing.ranks == 1 for timing in timings)
    rows, rest = [], []
    for ranks, nbytes, microseconds in timings:
        steps = algorithm(ranks, nbytes)
        count = sum(step.repeats for step in steps)
        sent = sum(step.repeats * step.nbytes for step in steps)
        added = sum(step.repeats * step.added for step in steps)
        rows.append((float(has_one_rank), count, sent))
        rest.append(microseconds - gamma * added)
    software, alpha, beta = _least_squares(rows, rest, [timing.microseconds for timing in timings])
    return Machine(Hockney(alpha, beta), gamma, software)


def fit_link(pingpong: Sequence[tuple[int, float]]) -> Hockney:
    """Return α and β from the one-way times of messages: (bytes, microseconds)."""
    sizes, times = zip(*pingpong, strict=True)
    return Hockney(*_least_squares([(1.0, float(nbytes)) for nbytes in sizes], times, times))


def fit_call(one_rank: float, local: float, channels: Sequence[int], software: float) -> float:
    """Return c, the extra time of a layer synchronized over one rank compared with a local one, without κ per message.

    Parameters
    ----------
    one_rank, local : float
        Microseconds of forward and backward through all layers, synchronized over one rank and local.
    channels : sequence of int
        Channels of every layer.
    software : float
        κ.
    """
    calls = [(width, direction) for width in channels for direction in DIRECTIONS]
    messages = sum(len(layer_messages(width, direction, "exact")) for width, direction in calls)
    return max(0.0, (one_rank - local - software * messages) / len(calls))


def fit_sigma(timings: Sequence[Timing], algorithm: Algorithm, machine: Machine) -> float:
    """Return the σ of normal delays that explains best by how much times exceed those of the machine without delays."""
    excess = [t.microseconds - allreduce_time(machine, algorithm, t.ranks, t.nbytes) for t in timings]
    columns = [(expected_maximum(t.ranks),) for t in timings]
    return _least_squares(columns, excess, [t.microseconds for t in timings])[0]


def _least_squares(
    rows: Sequence[tuple[float, ...]], values: Sequence[float], scales: Sequence[float]
) -> tuple[float, ...]:
    """Solve rows·x = values with each equation divided by its scale, and x ≥ 0 (Lawson & Hanson 1974)."""
    from scipy.optimize import nnls

    matrix = np.asarray(rows, float) / np.asarray(scales)[:, None]
    # Scale the columns to equal norms: numbers of bytes are thousands of times larger than the other entries.
    widths = np.linalg.norm(matrix, axis=0)
    widths[widths == 0] = 1
    solution, _ = nnls(matrix / widths, np.asarray(values) / np.asarray(scales))
    return tuple((solution / widths).tolist())
