"""Statistics over the micro-batches of gradient accumulation: what is exact, and what it costs.

    python benchmarks/micro_batches.py [--output DIRECTORY]

A residual network in PyTorch with `syncbn.torch.SyncBatchNorm`, in one process, makes training steps on the same batch:

- "whole": at once, which is the expected result;
- "accumulated": in micro-batches, whose gradients are added, each normalized with its own statistics;
- "checkpointed": at once, keeping only the inputs of the residual blocks, which the backward repeats
  (`torch.utils.checkpoint`).

Memory is the growth of the largest resident size of a process in its first step, after one on two samples. Seconds are
medians over processes that run in turn. The difference is that of the gradients from the expected ones, relative to
their norm.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.progress import track

from syncbn.experiments.versions import versions

METHODS = ("whole", "accumulated", "checkpointed")
BATCH, MICRO_BATCH, PIXELS, CLASSES = 32, 4, 48, 10
STAGES = ((32, 32, 1), (32, 64, 2), (64, 128, 2))
BLOCKS = 6
"""Residual blocks of each stage."""
STEPS = 3


def main() -> None:
    """Measure the methods in turn, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments.method)))
        return
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    runs = [method for _ in range(arguments.passes) for method in METHODS]
    for method in track(runs, "measuring", disable=not sys.stderr.isatty()):
        command = [sys.executable, __file__, "--method", method]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # tensors are returned when they are freed
        finished = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found[method].append(json.loads(finished.stdout))
    rows = {
        method: {
            "mebibytes": statistics.median(run["mebibytes"] for run in of_method),
            "seconds": statistics.median(run["seconds"] for run in of_method),
            "difference": distance(of_method[0]["gradients"], found["whole"][0]["gradients"]),
            "batches_tracked": of_method[0]["batches_tracked"],
        }
        for method, of_method in found.items()
    }
    text = [
        f"batch of {BATCH}, micro-batches of {MICRO_BATCH}; one process, {versions()['cpu']}",
        "",
        f"{'method':14}{'memory (MiB)':>13}{'step (s)':>10}{'gradients differ by':>21}{'running updates':>17}",
    ]
    text += [
        f"{method:14}{row['mebibytes']:13.0f}{row['seconds']:10.2f}{row['difference']:21.1e}{row['batches_tracked']:17}"
        for method, row in rows.items()
    ]
    print("\n".join(text))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        result = {"versions": versions(), "passes": arguments.passes, "methods": rows}
        (arguments.output / "micro_batches.json").write_text(json.dumps(result, indent=1) + "\n")
        (arguments.output / "micro_batches.txt").write_text("\n".join(text) + "\n")


def distance(gradients: list[float], expected: list[float]) -> float:
    """Return the norm of the difference, relative to that of the expected gradients."""
    squares = sum((a - b) ** 2 for a, b in zip(gradients, expected, strict=True))
    return float((squares / sum(b**2 for b in expected)) ** 0.5)


def measure(method: str) -> dict[str, Any]:
    """Return memory, seconds of a step, and gradients of a first step by a method."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.checkpoint import checkpoint

    from syncbn.torch import SyncBatchNorm, convert_sync_batchnorm

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = convert_sync_batchnorm(network(torch))
    x, labels = torch.randn(BATCH, 3, PIXELS, PIXELS), torch.randint(CLASSES, (BATCH,))

    def outputs(x: Any) -> Any:
        for part in model:
            x = checkpoint(part, x, use_reentrant=False) if method == "checkpointed" else part(x)
        return x

    def step(batch: int) -> None:
        rows = MICRO_BATCH if method == "accumulated" else batch
        for start in range(0, batch, rows):
            part = slice(start, min(start + rows, batch))
            cross_entropy(outputs(x[part]), labels[part], reduction="sum").div(batch).backward()

    state = copy.deepcopy(model.state_dict())
    step(2)  # imports what PyTorch imports late
    model.load_state_dict(state)
    model.zero_grad()
    before = peak_kibibytes()
    step(BATCH)
    mebibytes = (peak_kibibytes() - before) / 1024
    gradients = torch.cat([parameter.grad.ravel() for parameter in model.parameters()]).tolist()
    tracked = next(int(each.num_batches_tracked) for each in model.modules() if isinstance(each, SyncBatchNorm))
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step(BATCH)
        seconds.append(time.perf_counter() - start)
    return {
        "mebibytes": mebibytes,
        "seconds": statistics.median(seconds),
        "gradients": gradients,
        "batches_tracked": tracked,
    }


def peak_kibibytes() -> int:
    """Return the largest resident size of this process so far. That of getrusage begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def network(torch: Any) -> Any:
    """Return a residual network with BatchNorm2d."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc]  # torch is Any here
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    width = STAGES[0][0]
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    blocks = [
        Block(*((inputs, outputs, stride) if number == 0 else (outputs, outputs, 1)))
        for inputs, outputs, stride in STAGES
        for number in range(BLOCKS)
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(STAGES[-1][1], CLASSES))
    return nn.Sequential(stem, *blocks, head)


if __name__ == "__main__":
    main()
