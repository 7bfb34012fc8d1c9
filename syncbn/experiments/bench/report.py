"""The report of ``syncbn bench`` as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from syncbn._core.threads import usable_cores
from syncbn.experiments.bench.advice import Advice, group_advice, rank_advice, reduction_advice, thread_advice
from syncbn.experiments.machine import busy_warning
from syncbn.experiments.overhead import KINDS
from syncbn.experiments.scale.measurement import Measurement
from syncbn.experiments.table import size
from syncbn.experiments.versions import versions


@dataclass(frozen=True)
class BenchReport:
    """The results of a run of ``syncbn bench``.

    Attributes
    ----------
    network : str
    batch : int
        Samples per rank.
    layers : int
        Number of BN layers of the network.
    kernels : sequence of mapping
        Results of `kernel_speeds` for each number of threads.
    measurement : Measurement
        Measurement on the ranks.
    load : float
        Load average of this machine before the measurements.
    """

    network: str
    batch: int
    layers: int
    kernels: Sequence[Mapping[str, Any]]
    measurement: Measurement
    load: float

    @property
    def advice(self) -> list[Advice]:
        """Advice derived from the results."""
        cores = usable_cores()
        of_node = max(1, round(cores / self.measurement.cores_per_rank))
        return [
            thread_advice(self.kernels, cores, of_node),
            rank_advice(cores, of_node),
            group_advice(self.batch, self.measurement.ranks),
            reduction_advice(self.measurement),
        ]

    def as_text(self) -> str:
        """Return the report as paragraphs of text."""
        software = versions()
        machine = f"{software['cpu']}, {software['cores']} cores"
        head = [f"{machine}, {software['mpi_library'] or 'no MPI'}, syncbn {software['syncbn']}"]
        head += busy_warning(self.load)
        parts = [head, self._kernels(), self._allreduce(), self._layers(), self._advice()]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        measurement = self.measurement.as_json()
        del measurement["delays"]
        return {
            "versions": versions(),
            "load": self.load,
            "network": self.network,
            "batch": self.batch,
            "layers": self.layers,
            "kernels": list(self.kernels),
            "measurement": {**measurement, "sigma": self.measurement.sigma},
            "advice": [asdict(advice) for advice in self.advice],
        }

    def _kernels(self) -> list[str]:
        if not self.kernels:
            return []
        lines = ["kernels in one process, GB/s of memory moved (% of the speed of a copy):"]
        lines.append(f"{'shape':>16}{'threads':>9}{'copy':>8}{'forward':>16}{'backward':>16}")
        for row in self.kernels:
            speed = row["gigabytes"]
            ratios = "".join(f"{speed[name]:>8.1f}{speed[name] / speed['copy']:>6.0%}  " for name in _DIRECTIONS)
            shape = "×".join(map(str, row["shape"]))
            lines.append(f"{shape:>16}{row['threads']:>9}{speed['copy']:>8.1f}{ratios}".rstrip())
        return lines

    def _allreduce(self) -> list[str]:
        timings = [t for t in self.measurement.timings if t.ranks > 1]
        if not timings:
            return []
        words = [f"{size(t.nbytes)} {t.microseconds:.1f}" for t in timings]
        return [f"allreduce on {self.measurement.ranks} ranks, µs: " + ", ".join(words)]

    def _layers(self) -> list[str]:
        found = self.measurement.layers
        head = (
            f"{self.network} with {self.batch} per rank on {self.measurement.ranks} ranks: "
            f"{self.layers} BN layers, forward and backward"
        )
        lines = [head, f"{'':>16}{'µs/layer':>10}{'ms/step':>9}{'÷ local':>9}"]
        for kind in KINDS:
            name = "BN, local" if kind == "local" else f"SyncBN, {kind}"
            duration = found[kind]
            lines.append(
                f"{name:>16}{duration / self.layers:>10.0f}{duration / 1e3:>9.1f}{duration / found['local']:>9.2f}"
            )
        if self.measurement.oversubscribed:
            lines.append("ranks share cores here: these times show how long they wait, not the cost of SyncBN")
        return lines

    def _advice(self) -> list[str]:
        values = {a.subject: "–" if a.value is None else a.value for a in self.advice}
        return ["advice", *(f"  {a.subject:<12}{values[a.subject]!s:<9}{a.reason}" for a in self.advice)]


_DIRECTIONS = ("forward", "backward")
