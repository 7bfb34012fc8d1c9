"""Published times of other machines, with their sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syncbn.experiments.scale.algorithms import as_mpich
from syncbn.experiments.scale.fit import Timing, fit_link, fit_sigma
from syncbn.experiments.scale.links import Hockney
from syncbn.experiments.scale.model import Machine
from syncbn.experiments.scale.skew import NormalSkew


@dataclass(frozen=True)
class Published:
    """Published times of one machine, to which α, β and σ are fitted.

    Attributes
    ----------
    title : str
    source : str
        Publication of the numbers.
    pingpong : sequence of (bytes, microseconds)
        One-way times between two nodes (osu_latency), for the sizes of SyncBN's messages.
    allreduce : sequence of Timing
        Mean times of osu_allreduce.
    ranks_per_node : int
        Ranks per node in ``allreduce``. The model treats messages within a node as messages over the network.
    """

    title: str
    source: str
    pingpong: Sequence[tuple[int, float]]
    allreduce: Sequence[Timing]
    ranks_per_node: int = 1

    def link(self) -> Hockney:
        """Return α and β fitted to the point-to-point times."""
        return fit_link(self.pingpong)

    def machine(self) -> Machine:
        """Return a machine with this link whose σ is fitted to the times of the allreduces."""
        without_skew = Machine(self.link())
        return Machine(without_skew.link, skew=NormalSkew(fit_sigma(self.allreduce, as_mpich, without_skew)))


_STUDY = "osu_latency, osu_allreduce 5.8 in github.com/converged-computing/performance-study (arXiv:2506.02709)"

PUBLISHED: Mapping[str, Published] = {
    "lassen": Published(
        "Lassen, one rank per node",
        "osu_latency, osu_allreduce 5.8 in github.com/converged-computing/metrics-operator-experiments, "
        "google/kubecon/hpc/lassen-run1 (means of 20 runs)",
        ((8, 1.15), (256, 1.62), (1024, 1.96), (2048, 2.76), (8192, 4.91), (16384, 6.80), (65536, 12.04)),
        (
            *(Timing(4, n, t) for n, t in ((8, 2.61), (2048, 4.89), (16384, 15.71), (65536, 40.22))),
            *(Timing(8, n, t) for n, t in ((8, 3.84), (2048, 7.60), (16384, 25.79), (65536, 50.63))),
            *(Timing(16, n, t) for n, t in ((8, 4.84), (2048, 9.58), (16384, 30.88), (65536, 59.59))),
            *(Timing(32, n, t) for n, t in ((8, 8.76), (2048, 16.39), (16384, 43.75), (65536, 78.47))),
            *(Timing(64, n, t) for n, t in ((8, 7.49), (2048, 14.48), (16384, 47.02), (65536, 91.02))),
            *(Timing(128, n, t) for n, t in ((8, 13.28), (2048, 24.34), (16384, 63.63), (65536, 111.13))),
        ),
    ),
    "piz-daint": Published(
        "Piz Daint (multi-core nodes), one rank per node",
        "reference values of the OSU tests in github.com/reframe-hpc/reframe, "
        "cscs-checks/microbenchmarks/osu/osu_tests.py, 2020 (the long message: 4 MiB at the bandwidth given)",
        ((8, 1.61), (4194304, 4194304 / 9649.0)),
        (Timing(6, 8, 8.79), Timing(16, 8, 10.85)),
    ),
    "aws-eks": Published(
        "Amazon EKS with EFA, 96 ranks per node",
        f"{_STUDY}, experiments/aws/eks/cpu (size32: osu-2-iter-0, osu-32-iter-1; size128: osu-128-iter-1)",
        ((8, 16.16), (256, 16.33), (1024, 16.59), (2048, 16.92), (8192, 20.23), (16384, 21.01), (65536, 25.88)),
        (
            *(Timing(32 * 96, n, t) for n, t in ((8, 222.15), (2048, 478.67), (16384, 916.87))),
            *(Timing(128 * 96, n, t) for n, t in ((8, 1900.26), (2048, 2551.57), (16384, 4309.60))),
        ),
        96,
    ),
    "google-compute-engine": Published(
        "Google Compute Engine, 56 ranks per node",
        f"{_STUDY}, experiments/google/compute-engine/cpu "
        "(size32: osu-32-iter-2; size128: osu-2-iter-1, osu-128-iter-1)",
        ((8, 31.72), (256, 35.24), (1024, 36.95), (2048, 43.51), (8192, 61.19), (16384, 81.69), (32768, 127.10)),
        (
            *(Timing(32 * 56, n, t) for n, t in ((8, 360.00), (2048, 882.46), (16384, 1609.98))),
            *(Timing(128 * 56, n, t) for n, t in ((8, 862.61), (2048, 1148.33), (16384, 1866.36))),
        ),
        56,
    ),
}
"""Machines of ``syncbn scale --preset``."""
