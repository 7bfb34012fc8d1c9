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
from mpi4py import MPI

from syncbn import MPIComm
from syncbn.comm.mpi_transport import MPITransport
from syncbn.comm.protocol import Protocol
from syncbn.comm.signature import CollectiveSignature, layer_signature
from syncbn.experiments.versions import versions

LIMIT = 1.02
COMPARED = "with header/without"


class BareProtocol(Protocol):
    """The protocol of ranks that trust each other."""

    def handshake(
        self,
        signature: CollectiveSignature,  # noqa: ARG002
        max_buffer: np.ndarray | None = None,
        forward: int = 0,  # noqa: ARG002
        error: Exception | None = None,
    ) -> int:
        """Combine ``max_buffer``, and no more."""
        if error is not None:
            raise error
        if max_buffer is not None:
            self.combine(max_buffer, "max")
        self.sequence_number += 1
        return self.sequence_number

    @staticmethod
    def layer_signature(*description: Any) -> CollectiveSignature:  # noqa: ARG004
        """Return one signature for all layers."""
        return ANY_LAYER


ANY_LAYER = layer_signature("", 0, "", "", 0.0, "")


def bare_comm() -> MPIComm:
    """Return a communicator of all ranks with a `BareProtocol`. Collective."""
    comm = MPIComm()
    comm._protocol = BareProtocol(MPITransport(MPI.COMM_WORLD, "bare", duplicate=True))
    return comm


def main() -> None:
    """Run, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=21, help="pairs of epochs")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="write header.txt and header.json there")
    options = parser.parse_args()
    comm = MPIComm()
    ways = {"with header": epochs.epoch(comm), "without": epochs.epoch(bare_comm())}
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
