"""What the header costs with which every call begins: training with it against training with bare messages.

    mpiexec -n 2 python -m mpi4py benchmarks/header.py [--output DIRECTORY]

Epochs of the residual network of `syncbn compare` are trained in turn with `MPIComm` and with one that neither
describes nor compares calls: the ranges of exact sums travel alone, in messages of their own size, and a call
without ranges (the sum of gradients) sends nothing before its sums. Every rank runs one thread. Printed is the
median of the ratios of neighbouring epochs, and the middle half of them. The exit code is 1 where the limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import epochs
import numpy as np

from syncbn import MPIComm
from syncbn._core.message import NOTHING
from syncbn.comm import call_of
from syncbn.experiments.versions import versions
from syncbn.functional import _batch

LIMIT = 1.02
DESCRIBED = call_of("forward", "", 0, "", "", 0.0, "")
COMPARED = "with header/without"


class BareComm(MPIComm):
    """Ranks that trust each other."""

    def agree(
        self,
        call: Any,  # noqa: ARG002
        maxima: np.ndarray = NOTHING,
        error: Exception | None = None,
        forward_number: int = 0,  # noqa: ARG002
    ) -> int:
        """Combine the maxima, and no more."""
        if error is not None:
            raise error
        self._number += 1
        if maxima.size:
            self._combine(maxima, "MAX")
        return self._number

    def maxima(self, size: int) -> np.ndarray:
        """Return memory of a message of its own."""
        return self._open().planned["MAX"].lend(size, np.dtype(np.float64))


def without_header(comm: BareComm) -> epochs.Way:
    """Return what trains without describing calls either. Collective."""
    train = epochs.epoch(comm)

    def way(dataset: Any) -> list[float]:
        call_of, _batch.call_of = _batch.call_of, lambda *_: DESCRIBED
        try:
            return train(dataset)
        finally:
            _batch.call_of = call_of

    return way


def main() -> None:
    """Run, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=21, help="pairs of epochs")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="write header.txt and header.json there")
    options = parser.parse_args()
    comm = MPIComm()
    ways = {"with header": epochs.epoch(comm), "without": without_header(BareComm())}
    rows = epochs.in_turn(ways, options.epochs)
    if comm.rank == 0:
        about = versions()
        machine = f"{comm.size} ranks, one thread each, {about['cpu']}, {about['mpi_library']}"
        text = [machine, "", *map(epochs.line, rows), "", epochs.judged(COMPARED, rows[-1][COMPARED], LIMIT)]
        print("\n".join(text))
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / "header.txt").write_text("\n".join(text) + "\n")
            result = {"versions": about, "ranks": comm.size, "training": rows, "limit": LIMIT}
            (options.output / "header.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(comm.allgather(rows[-1][COMPARED] > LIMIT)[0])


if __name__ == "__main__":
    main()
