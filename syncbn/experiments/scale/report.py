"""The report of ``syncbn scale``: parameters, their validation and predictions, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from syncbn.experiments.machine import busy_warning
from syncbn.experiments.scale.algorithms import ALGORITHMS
from syncbn.experiments.scale.config import ScaleConfig
from syncbn.experiments.scale.links import Hockney, LogGP
from syncbn.experiments.scale.measurement import Measurement
from syncbn.experiments.scale.model import Machine
from syncbn.experiments.scale.prediction import Prediction, predictions
from syncbn.experiments.scale.published import Published
from syncbn.experiments.scale.skew import MeasuredSkew, NormalSkew
from syncbn.experiments.scale.validation import (
    AllreduceRow,
    allreduce_lines,
    measured_allreduces,
    published_allreduces,
    step_lines,
    step_rows,
)
from syncbn.experiments.versions import versions


@dataclass(frozen=True)
class ScaleReport:
    """The results of a run of ``syncbn scale``.

    Attributes
    ----------
    config : ScaleConfig
    machine : Machine
        Machine of the predictions.
    origin : str
        Origin of its parameters.
    measurements : sequence of Measurement
        Measurements on this machine, one for each number of ranks.
    fitted : Machine or None
        Machine fitted to ``measurements``; None if none of them has several ranks.
    published : Published or None
        The preset of ``machine``.
    computing : float or None
        Milliseconds of the rest of a step.
    rest : str
        Origin of ``computing``.
    load : float
        Load average of this machine before the measurements.
    """

    config: ScaleConfig
    machine: Machine
    origin: str
    measurements: Sequence[Measurement]
    fitted: Machine | None
    published: Published | None
    computing: float | None
    rest: str
    load: float

    @property
    def predictions(self) -> list[Prediction]:
        """All predictions."""
        return list(predictions(self.machine, self.config, self.computing))

    def as_text(self) -> str:
        """Return the report as paragraphs of text."""
        parts = [[self.config.title], self._parameters(), self._allreduces(), self._steps()]
        parts += [self._published(), self._table()]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "config": asdict(self.config),
            "versions": versions(),
            "origin": self.origin,
            "machine": _machine_as_json(self.machine),
            "fitted": _machine_as_json(self.fitted) if self.fitted else None,
            "load": self.load,
            "computing_milliseconds": self.computing,
            "computing_origin": self.rest,
            "measurements": [_without_delays(measurement) for measurement in self.measurements],
            "check": {
                "allreduce": [row.as_json() for row in self._allreduce_rows()],
                "step": self._step_rows(),
                "published": [row.as_json() for row in self._published_rows()],
            },
            "predictions": [asdict(prediction) for prediction in self.predictions],
        }

    def _parameters(self) -> list[str]:
        lines = [f"parameters: {self.origin}", "  " + _describe(self.machine)]
        if self.fitted and self.fitted is not self.machine:
            lines += ["fitted on this machine, for the validation below:", "  " + _describe(self.fitted)]
        lines += [
            f"{m.ranks} ranks share {m.ranks * m.cores_per_rank:.0f} cores and wait for each other: "
            "measured, but not used in the fit"
            for m in self.measurements
            if m.oversubscribed and m.ranks > 1 and not all(other.oversubscribed for other in self.measurements)
        ]
        lines += busy_warning(self.load) if self.measurements else []
        if self.fitted is not None and self.fitted is self.machine:
            lines.append(
                "The ranks here share memory, so predictions assume a network as fast as this memory: a lower bound for"
            )
            lines.append("other machines (see --preset, --alpha and --bandwidth, --loggp).")
        return lines

    def _allreduces(self) -> list[str]:
        rows = self._allreduce_rows()
        return ["allreduce on this machine, without delays:", *allreduce_lines(rows)] if rows else []

    def _allreduce_rows(self) -> list[AllreduceRow]:
        return measured_allreduces(self.fitted, self.measurements) if self.fitted else []

    def _steps(self) -> list[str]:
        rows = self._step_rows()
        head = "all layers on this machine, forward and backward, SyncBN − BN; predicted with different delays:"
        return [head, *step_lines(rows)] if rows else []

    def _step_rows(self) -> list[dict[str, float]]:
        return step_rows(self.fitted, self.measurements, self.config) if self.fitted else []

    def _published(self) -> list[str]:
        if self.published is None:
            return []
        head = f"{self.published.title}: published allreduces (α and β are fitted to ping-pong times, σ to these):"
        return [head, f"  {self.published.source}", *allreduce_lines(self._published_rows())]

    def _published_rows(self) -> list[AllreduceRow]:
        return published_allreduces(self.machine, self.published) if self.published else []

    def _table(self) -> list[str]:
        names = list(ALGORITHMS)
        lines = [f"{'':>13}" + "".join(f"{name:>26}" for name in names)]
        lines.append(f"{'ranks':>7}{'group':>6}" + f"{'µs/layer':>11}{'ms/step':>9}{'share':>6}" * len(names))
        most = max(self.config.at)
        for group in (None, *self.config.groups):
            rows = [p for p in self.predictions if p.group_size == group]
            # With groups the cost does not depend on the number of ranks, once there is a full group.
            for ranks in self.config.at if group is None else [most] if most >= group else []:
                label = f"{ranks:>7,}{'all':>6}" if group is None else f"{f'≥{group:,}':>7}{group:>6}"
                lines.append(label + "".join(_cells(p) for p in rows if p.ranks == ranks))
        return [*self._table_title(), *lines]

    def _table_title(self) -> list[str]:
        head = "predicted: mean of a layer, forward and backward; all layers of a step; their share of the step"
        if self.computing is None:
            return [head]
        return [head, f"if the rest of a step takes {_milliseconds(self.computing)} ms ({self.rest})"]


def _cells(prediction: Prediction) -> str:
    part = "–" if prediction.share is None else f"{100 * prediction.share:.1f}%"
    return f"{prediction.layer_microseconds:>11,.0f}{_milliseconds(prediction.step_milliseconds):>9}{part:>6}"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _describe(machine: Machine) -> str:
    link = machine.link
    if isinstance(link, Hockney):
        words = [f"α {link.alpha:.3g} µs", f"β {1e3 * link.beta:.3g} ns/B"]
    elif isinstance(link, LogGP):
        words = [f"L {link.latency:.3g} µs", f"o {link.overhead:.3g} µs", f"g {link.gap:.3g} µs"]
        words.append(f"G {1e3 * link.gap_per_byte:.3g} ns/B")
    else:
        words = [repr(link)]
    words += [f"γ {1e3 * machine.gamma:.3g} ns/B", f"κ {machine.software:.3g} µs", f"c {machine.call:.3g} µs"]
    if isinstance(machine.skew, NormalSkew):
        words.append(f"σ {machine.skew.sigma:.3g} µs")
    elif isinstance(machine.skew, MeasuredSkew):
        words.append(f"{len(machine.skew.delays)} measured delays")
    return ", ".join(words)


def _machine_as_json(machine: Machine) -> dict[str, Any]:
    found = {"link": type(machine.link).__name__, **asdict(machine)}
    found["link"] = {"model": type(machine.link).__name__, **asdict(machine.link)}  # type: ignore[call-overload]
    if isinstance(machine.skew, MeasuredSkew):
        found["skew"] = "measured delays"
    return found


def _without_delays(measurement: Measurement) -> dict[str, Any]:
    import numpy as np

    found = {**measurement.as_json(), "sigma": measurement.sigma, "oversubscribed": measurement.oversubscribed}
    quantiles = np.quantile(measurement.delays, np.linspace(0, 1, 11)).tolist() if measurement.delays else []
    return {**found, "delays": {"count": len(measurement.delays), "deciles": quantiles}}
