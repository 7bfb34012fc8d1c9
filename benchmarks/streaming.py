"""Benefit of writing large results around the caches, alone and where the next operation reads them.

    python benchmarks/streaming.py [--output DIRECTORY]

Evaluation, and the forward and the backward in channels-last memory, write results of more than 16 MB in this way, if
their memory begins a cache line. So each call is measured with two arrays ``out``, one of which begins 16 bytes later.
Results of 12 MB, which are written through the caches in both cases, show the cost of that misalignment itself. The
chain is the call followed by NumPy's maximum of its result and 0. All calls alternate in one run, with one thread; the
table has medians over rounds and the medians of the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from case import Candidate
from timing import interleave

from syncbn import functional as F
from syncbn.comm import SERIAL
from syncbn.experiments.versions import versions
from syncbn.typing import FloatArray

SAMPLES = (16, 32, 64)
SAMPLE = (56, 56, 64)
LINE = 64


def main() -> None:
    """Run the benchmark, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51, help="rounds in which every call runs once")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    arguments = parser.parse_args()
    rows = [row for samples in SAMPLES for row in measure(samples, arguments.rounds)]
    software = versions()
    text = [
        f"one thread, {software['cpu']}; float32, channels-last; aligned: beginning a cache line",
        "",
        f"{'operation':32s} {'MB':>5s} {'not aligned':>12s} {'aligned':>9s} {'ratio':>6s}",
        *map(line, rows),
    ]
    print("\n".join(text))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        result = {"versions": software, "rows": rows}
        (arguments.output / "streaming.json").write_text(json.dumps(result, indent=1) + "\n")
        (arguments.output / "streaming.txt").write_text("\n".join(text) + "\n")


def measure(samples: int, rounds: int) -> list[dict]:
    """Return a row for each operation, alone and in the chain."""
    rng = np.random.default_rng(0)
    shape = (samples, *SAMPLE)
    x, dy = (allocate(shape, 0) for _ in range(2))
    for array in (x, dy):
        rng.standard_normal(dtype=np.float32, out=np.moveaxis(array, 1, -1))
    outs = {"aligned": allocate(shape, 0), "not aligned": allocate(shape, 16)}
    read = allocate(shape, 0)
    mean, var = np.zeros(shape[-1]), np.ones(shape[-1])
    _, _, backward = F.batch_norm(x)
    operations: dict[str, Callable[[FloatArray], object]] = {
        "evaluation": lambda out: F.batch_norm_inference(x, mean, var, out=out),
        "forward": lambda out: F.batch_norm(x, out=out),
        "backward": lambda out: backward(dy, out=out),
    }
    rows = []
    for name, operation in operations.items():
        for chained in (False, True):
            calls = {
                alignment: Candidate(chain(operation, out, read if chained else None))
                for alignment, out in outs.items()
            }
            times = interleave(calls, rounds, SERIAL)
            ratios = (a / b for a, b in zip(times["aligned"], times["not aligned"], strict=True))
            rows.append(
                {
                    "operation": f"{name}, then maximum" if chained else name,
                    "megabytes": x.nbytes / 1e6,
                    **{alignment: 1e6 * statistics.median(seconds) for alignment, seconds in times.items()},
                    "ratio": statistics.median(ratios),
                }
            )
    return rows


def chain(operation: Callable[[FloatArray], object], out: FloatArray, read: FloatArray | None) -> Callable[[], None]:
    """Return a call that writes to ``out``, and reads it again unless ``read`` is None."""

    def call() -> None:
        operation(out)
        if read is not None:
            np.maximum(out, 0, out=read)

    return call


def allocate(shape: tuple[int, ...], offset: int) -> FloatArray:
    """Return an (N, C, H, W) array in channels-last memory that begins ``offset`` bytes after that of a cache line."""
    size = int(np.prod(shape)) * np.float32().itemsize
    memory = np.zeros(size + 2 * LINE, np.uint8)
    start = -memory.ctypes.data % LINE + offset
    return np.moveaxis(memory[start : start + size].view(np.float32).reshape(shape), -1, 1)


def line(row: dict) -> str:
    """Return a row of the table as text."""
    return (
        f"{row['operation']:32s} {row['megabytes']:5.1f} {row['not aligned']:9.0f} µs {row['aligned']:6.0f} µs "
        f"{row['ratio']:6.2f}"
    )


if __name__ == "__main__":
    main()
