"""Validation of the model: predicted times next to measured and published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from syncbn.experiments.scale.algorithms import as_mpich
from syncbn.experiments.scale.config import ScaleConfig
from syncbn.experiments.scale.measurement import Measurement
from syncbn.experiments.scale.model import Machine, allreduce_time, step_time
from syncbn.experiments.scale.published import Published
from syncbn.experiments.scale.skew import NO_SKEW, MeasuredSkew, NormalSkew, Skew
from syncbn.experiments.table import size


class AllreduceRow(NamedTuple):
    """Measured and predicted microseconds of an allreduce."""

    ranks: int
    nbytes: int
    measured: float
    predicted: float

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {"ranks": self.ranks, "bytes": self.nbytes, "measured": self.measured, "predicted": self.predicted}


def measured_allreduces(machine: Machine, measurements: Sequence[Measurement]) -> list[AllreduceRow]:
    """Return the measured allreduces with the predictions of ``machine`` without delays of ranks."""
    without_skew = machine.without_skew()
    return [
        AllreduceRow(*timing, allreduce_time(without_skew, as_mpich, timing.ranks, timing.nbytes))
        for measurement in measurements
        for timing in measurement.timings
        if timing.ranks > 1
    ]


def published_allreduces(machine: Machine, published: Published) -> list[AllreduceRow]:
    """Return the published allreduces with the predictions of ``machine``."""
    return [
        AllreduceRow(*t, allreduce_time(machine, as_mpich, t.ranks, t.nbytes) + machine.skew.wait(t.ranks))
        for t in published.allreduce
    ]


def allreduce_lines(rows: Sequence[AllreduceRow]) -> list[str]:
    """Return the rows as lines of a table."""
    lines = [f"{'ranks':>7}{'size':>10}{'measured':>13}{'predicted':>13}{'ratio':>7}"]
    return lines + [
        f"{ranks:>7,}{size(nbytes):>10}{measured:>10.1f} µs{predicted:>10.1f} µs{predicted / measured:>7.2g}"
        for ranks, nbytes, measured, predicted in rows
    ]


def step_rows(machine: Machine, measurements: Sequence[Measurement], config: ScaleConfig) -> list[dict[str, float]]:
    """Return the milliseconds of synchronization in a step, measured and predicted with each model of delays."""

    def predicted(ranks: int, skew: Skew) -> float:
        return step_time(replace(machine, skew=skew), as_mpich, ranks, config.widths, config.reduction) / 1e3

    return [
        {
            "ranks": m.ranks,
            "measured": (m.layers[config.reduction] - m.layers["local"]) / 1e3,
            "no_skew": predicted(m.ranks, NO_SKEW),
            "normal": predicted(m.ranks, NormalSkew(m.sigma)),
            "measured_delays": predicted(m.ranks, MeasuredSkew(m.delays)),
        }
        for m in measurements
        if m.ranks > 1 and m.layers
    ]


def step_lines(rows: Sequence[dict[str, float]]) -> list[str]:
    """Return the rows as lines of a table."""
    head = ("ranks", "measured", "no skew", "normal σ", "measured delays")
    lines = [("{:>7}" + "{:>17}" * 4).format(*head)]
    return lines + [("{:>7}" + "{:>14.2f} ms" * 4).format(*row.values()) for row in rows]
