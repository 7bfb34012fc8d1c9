"""Cost of the options of batch normalization: each of them against the plain call.

    python benchmarks/options.py [--output DIRECTORY]
    mpiexec -n 2 python -m mpi4py benchmarks/options.py

All calls alternate in one run, with one thread per rank; the table has medians over rounds and their ratios to the
plain call. ``by hand`` is the plain call followed by NumPy's maximum, which ``relu=True`` replaces. The exit code is 1
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

import numpy as np
from case import Candidate
from epochs import judged
from timing import interleave

from syncbn import MPIComm, SerialComm
from syncbn import functional as F
from syncbn.comm import Communicator
from syncbn.experiments.versions import versions

SHAPES = ((64, 64), (2, 64, 7, 7))
LIMITS = {"relu": 1.15, "residual": 1.15, "out": 1.15, "mask": 1.5, "float16": 2.0}


def main() -> None:
    """Run the benchmark, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51, help="rounds in which every call runs once")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    arguments = parser.parse_args()
    comm = MPIComm() if _is_launched() else SerialComm()
    rows = [{"shape": shape, **medians(comm, shape, arguments.rounds)} for shape in SHAPES]
    worst = {name: max(row[name] / row["plain"] for row in rows) for name in LIMITS}
    if comm.rank == 0:
        software = versions()
        machine = f"{comm.size} rank{'s' * (comm.size > 1)}, one thread each, {software['cpu']}; forward, float32"
        text = [machine, "", *map(line, rows), "", *(judged(name, worst[name], LIMITS[name]) for name in LIMITS)]
        print("\n".join(text))
        if arguments.output:
            arguments.output.mkdir(parents=True, exist_ok=True)
            name = f"options-{comm.size}"
            result = {"versions": software, "ranks": comm.size, "microseconds": rows, "ratios": worst, "limits": LIMITS}
            (arguments.output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            (arguments.output / f"{name}.txt").write_text("\n".join(text) + "\n")
    sys.exit(comm.allgather(any(worst[name] > LIMITS[name] for name in LIMITS))[0])


def medians(comm: Communicator, shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Return the median microseconds of each call. Collective."""
    rng = np.random.default_rng(comm.rank)
    x = rng.standard_normal(shape).astype(np.float32)
    half, out = x.astype(np.float16), np.empty_like(x)
    mask = rng.random((shape[0], *shape[2:])) < 0.9
    calls = {
        "plain": lambda: F.batch_norm(x, comm=comm),
        "relu": lambda: F.batch_norm(x, comm=comm, relu=True),
        "by hand": lambda: np.maximum(F.batch_norm(x, comm=comm)[0], 0),
        "residual": lambda: F.batch_norm(x, comm=comm, residual=x),
        "out": lambda: F.batch_norm(x, comm=comm, out=out),
        "mask": lambda: F.batch_norm(x, comm=comm, mask=mask),
        "float16": lambda: F.batch_norm(half, comm=comm),
    }
    times = interleave({name: Candidate(call) for name, call in calls.items()}, rounds, comm)
    return {name: 1e6 * statistics.median(seconds) for name, seconds in times.items()}


def line(row: dict) -> str:
    """Return a row of the table as text."""
    cells = (f"{name} {row[name]:.1f} µs ({row[name] / row['plain']:.2f})" for name in row if name != "shape")
    return f"{'×'.join(map(str, row['shape'])):10s} " + "  ".join(cells)


def _is_launched() -> bool:
    """Return whether an MPI launcher started this process."""
    return any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"))


if __name__ == "__main__":
    main()
