"""Parameters from measured times, by least squares of relative errors."""

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
    """How many microseconds an allreduce of so many bytes took on so many ranks."""

    ranks: int
    nbytes: int
    microseconds: float


def fit_machine(timings: Sequence[Timing], algorithm: Algorithm, gamma: float = 0.0) -> Machine:
    """Return the machine whose κ, α and β fit the times of allreduces best, none of them negative.

    Minimized is Σ((predicted − measured)/measured)², so that small messages count as much as large ones. Times
    on one rank are κ alone; without any, κ is 0, since it could not be told from α. γ has to be given:
    only β + γ shows in these times.

    Parameters
    ----------
    timings : sequence of Timing
        At least one on 2 ranks or more.
    algorithm : callable
        That the library uses.
    gamma : float
        Microseconds to add up one byte.

    Raises
    ------
    ValueError
        No time of several ranks.
    """
    if not any(timing.ranks > 1 for timing in timings):
        raise ValueError("a fit needs times of at least 2 ranks, got none")
    alone = any(timing.ranks == 1 for timing in timings)
    rows, rest = [], []
    for ranks, nbytes, microseconds in timings:
        steps = algorithm(ranks, nbytes)
        count = sum(step.repeats for step in steps)
        sent = sum(step.repeats * step.nbytes for step in steps)
        added = sum(step.repeats * step.added for step in steps)
        rows.append((float(alone), count, sent))
        rest.append(microseconds - gamma * added)
    software, alpha, beta = _least_squares(rows, rest, [timing.microseconds for timing in timings])
    return Machine(Hockney(alpha, beta), gamma, software)


def fit_link(pingpong: Sequence[tuple[int, float]]) -> Hockney:
    """Return α and β from the one-way times of messages: (bytes, microseconds)."""
    sizes, times = zip(*pingpong, strict=True)
    return Hockney(*_least_squares([(1.0, float(nbytes)) for nbytes in sizes], times, times))


def fit_call(alone: float, local: float, channels: Sequence[int], software: float) -> float:
    """Return c: what a layer over a group of one rank takes longer than a local one, without κ of its messages.

    Parameters
    ----------
    alone, local : float
        Microseconds of forward and backward through all layers.
    channels : sequence of int
        Of every layer.
    software : float
        κ.
    """
    calls = [(width, direction) for width in channels for direction in DIRECTIONS]
    messages = sum(len(layer_messages(width, direction, "exact")) for width, direction in calls)
    return max(0.0, (alone - local - software * messages) / len(calls))


def fit_sigma(timings: Sequence[Timing], algorithm: Algorithm, machine: Machine) -> float:
    """Return the σ of normal delays that explains best what times exceed those of the machine without delays."""
    excess = [t.microseconds - allreduce_time(machine, algorithm, t.ranks, t.nbytes) for t in timings]
    columns = [(expected_maximum(t.ranks),) for t in timings]
    return _least_squares(columns, excess, [t.microseconds for t in timings])[0]


def _least_squares(
    rows: Sequence[tuple[float, ...]], values: Sequence[float], scales: Sequence[float]
) -> tuple[float, ...]:
    """Solve rows·x = values with each equation divided by its scale, and x ≥ 0 (Lawson & Hanson 1974)."""
    from scipy.optimize import nnls

    matrix = np.asarray(rows, float) / np.asarray(scales)[:, None]
    # Columns of like size: bytes are thousands where the others are ones.
    widths = np.linalg.norm(matrix, axis=0)
    widths[widths == 0] = 1
    solution, _ = nnls(matrix / widths, np.asarray(values) / np.asarray(scales))
    return tuple((solution / widths).tolist())
