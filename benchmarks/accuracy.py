"""Accuracy of the kernels in a random search, against long double.

    python benchmarks/accuracy.py [--cases 15000] [--output DIRECTORY]

Each case is one channel of float32 values: 1 to 16 rows of 2 to 784 values, with an offset of up to 1e7 standard
deviations, in either memory order. The table has the largest error of each quantity over all cases, in the unit of its
bound. The exit code is 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from syncbn import functional as F
from syncbn.experiments.versions import versions

EPS = 1e-5
BOUNDS = {"y": 4e-7, "dx": 4e-7, "dweight": 4e-7, "dbias": 4e-7, "var": 1e-12}
UNITS = {
    "y": "of the largest |y|",
    "dx": "of the largest sum of the magnitudes of dx's terms",
    "dweight": "of Σ|dy·x̂|",
    "dbias": "of Σ|dy|",
    "var": "of var, divided by 1 + |mean|/std",
}


def main() -> None:
    """Search, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    worst = dict.fromkeys(BOUNDS, 0.0)
    for _ in track(range(arguments.cases), "searching", disable=not sys.stderr.isatty()):
        for name, error in errors(*random_case(rng), channels_last=bool(rng.integers(2))).items():
            worst[name] = float(np.maximum(worst[name], error))  # NaN if the error is
    text = [f"largest error of {arguments.cases} random channels of float32, {versions()['cpu']}", ""]
    for name, bound in BOUNDS.items():
        exceeded = "" if worst[name] <= bound else "  exceeded"
        text.append(f"{name:8}{worst[name]:10.2e} {UNITS[name]} (bound {bound:g}){exceeded}")
    print("\n".join(text))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        result = {"versions": versions(), "cases": arguments.cases, "errors": worst, "bounds": BOUNDS}
        (arguments.output / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
        (arguments.output / "accuracy.txt").write_text("\n".join(text) + "\n")
    sys.exit(not all(worst[name] <= bound for name, bound in BOUNDS.items()))


def random_case(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x and dy of one channel, of shape (N, 1, S)."""
    shape = (int(rng.integers(1, 17)), 1, int(2 ** rng.uniform(1, np.log2(784))))
    offset = rng.choice([0.0, 10 ** rng.uniform(-2, 7)]) * rng.choice([-1, 1])
    x = (rng.standard_normal(shape) + offset) * 10 ** rng.uniform(-4, 4)
    dy = (rng.standard_normal(shape) + rng.choice([0.0, 1.0, 100.0])) * 10 ** rng.uniform(-8, 4)
    return x.astype(np.float32), dy.astype(np.float32)


def errors(x: NDArray[Any], dy: NDArray[Any], channels_last: bool) -> dict[str, float]:
    """Return the error of each quantity, in the unit of its bound."""
    if channels_last:
        x, dy = (np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2) for a in (x, dy))
    weight = np.ones(1)
    y, moments, backward = F.batch_norm(x, weight, np.zeros(1), eps=EPS)
    dx, dweight, dbias = backward(dy)
    long_x, g = x.astype(np.longdouble), dy.astype(np.longdouble)
    count = x.size
    deviation = long_x - long_x.mean()
    deviation -= deviation.mean()
    var = (deviation**2).mean()
    std = np.sqrt(var + np.longdouble(EPS))
    x_hat = deviation / std
    right = {
        "y": x_hat,
        "dx": (g - g.mean() - x_hat * (g * x_hat).mean()) / std,
        "dweight": (g * x_hat).sum(),
        "dbias": g.sum(),
        "var": var,
    }
    terms = (abs(g) + abs(g).mean() + abs(x_hat) * abs(g * x_hat).mean()) / std
    unit = {
        "y": abs(x_hat).max(),
        "dx": terms.max(),
        "dweight": abs(g * x_hat).sum(),
        "dbias": abs(g).sum(),
        "var": var * (1 + abs(long_x.mean()) / np.sqrt(var)) if var else np.longdouble(1),
    }
    found = {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias, "var": moments.var}
    assert count == moments.count
    return {name: float(np.max(abs(found[name] - right[name])) / unit[name]) for name in BOUNDS if unit[name]}


if __name__ == "__main__":
    main()
