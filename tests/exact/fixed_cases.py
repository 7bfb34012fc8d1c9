"""Prints a digest of the bits of a fixed set of cases, with exact and with plain sums.

    mpiexec -n 5 python -m exact.fixed_cases

One line of JSON: {"ranks": 5, "exact": "8d5e…", "float64": "03fa…"}, from all samples in their order.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator

import numpy as np

from exact.batches import Batch, normalized
from exact.bits import bits
from exact.values import KINDS
from syncbn.comm import Communicator, MPIComm, SerialComm

CHANNELS = 300
"""With 5 words each, beyond the size where MPICH changes its algorithm."""


def cases() -> Iterator[Batch]:
    """All kinds of values and dtypes, few samples of many channels and many samples of few."""
    rng = np.random.default_rng(20150211)
    for kind in KINDS:
        for dtype in ("float16", "float32", "float64"):
            yield Batch.random(rng, (11, 3, 7), dtype, (kind, "offset"), masked=0.2)
    yield Batch.random(rng, (13, CHANNELS), "float32", ("offset", "normal"), affine="none")
    yield Batch.random(rng, (13, CHANNELS, 2), "float64", ("offset", "cancelling"))


def own_samples(rank: int, ranks: int, samples: int) -> slice:
    """Return this rank's share: the first rank has next to nothing, or nothing, the last one most."""
    first, last = (int(samples * (r / ranks) ** 2) for r in (rank, rank + 1))
    return slice(first, last)


def digest(comm: Communicator, reduction: str) -> str:
    """Return a hash of the bits of all cases on all ranks. Collective."""
    total = hashlib.sha256()
    for batch in cases():
        mine = own_samples(comm.rank, comm.size, len(batch.x))
        every = comm.allgather(normalized(batch.share(mine, channels_last=comm.rank % 2 == 1), comm, reduction))
        for name in ("y", "dx"):
            total.update(bits(np.concatenate([one[name] for one in every])))
        statistics = {bits(one["mean"]) + bits(one["var"]) for one in every}
        if len(statistics) > 1:
            raise SystemExit(f"ranks have different moments with reduction={reduction!r}")
        total.update(*statistics)
    return total.hexdigest()


def main() -> None:
    """Print the digests of all ranks, or of this process alone with "serial"."""
    with SerialComm() if sys.argv[1:] == ["serial"] else MPIComm() as comm:
        line = {"ranks": comm.size, "exact": digest(comm, "exact"), "float64": digest(comm, "float64")}
        if comm.rank == 0:
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
