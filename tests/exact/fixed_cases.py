"""Results of a fixed set of cases with both reductions, written to a file to be compared with those of other runs.

    mpiexec -n 5 python -m mpi4py -m exact.fixed_cases FILE.npz
    python -m exact.fixed_cases FILE.npz serial

The file holds y, dx, mean and var of all samples in their order as arrays named "exact/0/y", "float64/0/y" and so on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exact.batches import Batch, normalized
from exact.bits import same_bits
from exact.values import KINDS
from syncbn.comm import Communicator, MPIComm, SerialComm

CHANNELS = 300
"""Number of channels whose 5 limbs each exceed the message size at which MPICH changes its algorithm."""


def cases() -> Iterator[Batch]:
    """Yield all kinds of values and dtypes, few samples of many channels and many samples of few."""
    rng = np.random.default_rng(20150211)
    for kind in KINDS:
        for dtype in ("float16", "float32", "float64"):
            yield Batch.random(rng, (11, 3, 7), dtype, (kind, "offset"), masked=0.2)
    yield Batch.random(rng, (13, CHANNELS), "float32", ("offset", "normal"), affine="none")
    yield Batch.random(rng, (13, CHANNELS, 2), "float64", ("offset", "cancelling"))


def own_samples(rank: int, ranks: int, samples: int) -> slice:
    """Return the samples of a rank: few or none on the first rank, most on the last."""
    first, last = (int(samples * (r / ranks) ** 2) for r in (rank, rank + 1))
    return slice(first, last)


def results(comm: Communicator, reduction: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name and the values of each array of each case, of the samples of all ranks. Collective."""
    for number, batch in enumerate(cases()):
        mine = own_samples(comm.rank, comm.size, len(batch.x))
        of_ranks = comm.allgather(normalized(batch.share(mine, channels_last=comm.rank % 2 == 1), comm, reduction))
        for name in ("y", "dx"):
            yield f"{reduction}/{number}/{name}", np.concatenate([of_rank[name] for of_rank in of_ranks])
        for name in ("mean", "var"):
            first = of_ranks[0][name]
            if not all(same_bits(of_rank[name], first) for of_rank in of_ranks):
                raise SystemExit(f"ranks have different values of {name} in case {number}, reduction={reduction!r}")
            yield f"{reduction}/{number}/{name}", first


def main(file: str, kind: str = "mpi") -> None:
    """Write the results of all ranks or, if ``kind`` is "serial", of this process."""
    with SerialComm() if kind == "serial" else MPIComm() as comm:
        arrays = {name: array for reduction in ("exact", "float64") for name, array in results(comm, reduction)}
        if comm.rank == 0:
            np.savez(Path(file), ranks=comm.size, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
