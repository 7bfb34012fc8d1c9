"""Cost of exact sums: SyncBatchNorm with exact and with float64 sums, and local BatchNorm.

    mpiexec -n 2 python -m mpi4py benchmarks/exactness.py [--output DIRECTORY]

Every rank runs one thread. Layers: the three alternate, forward and backward; the table has medians over rounds and
their ratios. Times are those of the slowest rank. Training: epochs of the residual network of `syncbn compare` with
exact and with float64 sums alternate; the table has the median of the ratios of successive epochs. The exit code is 1
if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import epochs

from syncbn import MPIComm
from syncbn.experiments.bn_layers import RESNET50
from syncbn.experiments.overhead import layer_times
from syncbn.experiments.versions import versions

DENSE = ((256, 1024), (64, 64), (4096, 256))
LIMITS = {
    "resnet50: exact/float64": 1.25,
    "resnet50: exact/local": 1.4,
    "dense: exact/float64": 3.0,
    "training: exact/float64": 1.02,
}


def main() -> None:
    """Run the benchmark, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2, help="samples per rank of the convolutional shapes")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the layers")
    parser.add_argument("--epochs", type=int, default=15, help="pairs of training epochs")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    options = parser.parse_args()
    comm = MPIComm()
    shapes = [((options.batch, *shape), layers) for shape, layers in RESNET50.items()] + [(s, 1) for s in DENSE]
    rows = []
    for shape, layers in shapes:
        rows.append(measure(comm, shape, layers, options.rounds))
        if comm.rank == 0:
            print(line(rows[-1]), flush=True)
    convolutional, dense = rows[: len(RESNET50)], rows[len(RESNET50) :]
    ways = {reduction: epochs.epoch(comm, reduction) for reduction in ("exact", "float64")}
    training = epochs.in_turn(ways, options.epochs)
    if comm.rank == 0:
        print("\n".join(map(epochs.line, training)), flush=True)
    ratios = {
        "resnet50: exact/float64": over_network(convolutional, "exact", "float64"),
        "resnet50: exact/local": over_network(convolutional, "exact", "local"),
        "dense: exact/float64": statistics.geometric_mean(row["exact"] / row["float64"] for row in dense),
        "training: exact/float64": training[-1]["exact/float64"],
    }
    summary = [epochs.judged(name, ratio, LIMITS[name]) for name, ratio in ratios.items()]
    if comm.rank == 0:
        print("\n" + "\n".join(summary))
        if options.output:
            software = versions()
            result = {"versions": software, "ranks": comm.size, "rows": rows, "training": training}
            result |= {"ratios": ratios, "limits": LIMITS}
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / "exactness.json").write_text(json.dumps(result, indent=1) + "\n")
            machine = f"{comm.size} ranks, one thread each, {software['cpu']}, {software['mpi_library']}"
            text = [f"{machine}; medians, forward + backward", "", *map(line, rows), "", *map(epochs.line, training)]
            text += ["", *summary]
            (options.output / "exactness.txt").write_text("\n".join(text) + "\n")
    sys.exit(comm.allgather(any(ratio > LIMITS[name] for name, ratio in ratios.items()))[0])


def over_network(rows: list[dict], one: str, other: str) -> float:
    """Return the ratio of the times of all layers of a network."""
    return sum(row[one] * row["layers"] for row in rows) / sum(row[other] * row["layers"] for row in rows)


def measure(comm: MPIComm, shape: tuple[int, ...], layers: int, rounds: int) -> dict:
    """Return the median microseconds of each kind of layer for one shape."""
    return {"shape": shape, "layers": layers, **layer_times(comm, shape, rounds)}


def line(row: dict) -> str:
    """Return a row of the table as text."""
    times = "  ".join(f"{name} {row[name]:7.1f} µs" for name in ("local", "float64", "exact"))
    ratios = "  ".join(f"exact/{name} {row['exact'] / row[name]:.2f}" for name in ("float64", "local"))
    return f"{'×'.join(map(str, row['shape'])):14s} {times}  {ratios}"


if __name__ == "__main__":
    main()
