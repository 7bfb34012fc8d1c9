"""Parts that the tests of `syncbn compare` share: a small comparison, run as a command."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imread

TINY = ["--epochs", "1", "--train-samples", "256", "--test-samples", "100", "--batches", "2,16"]

COMMAND = [sys.executable, "-m", "syncbn.cli", "compare"]

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def compare(*arguments: str, under: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(under or []), *COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
        env=ENVIRONMENT,
    )


def strict(text: str) -> dict[str, Any]:
    """Return the value of JSON text; NaN and Infinity, which are not JSON, are errors."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def complete(output: Path) -> bool:
    """Return whether all files of a comparison are there and complete."""
    found = strict((output / "compare.json").read_text())
    assert imread(output / "compare.png").shape[2] == 4
    return bool(found["complete"]) and found["verdict"] in (output / "compare.txt").read_text()


FEW = ["--seeds", "1", "--norms", "bn,ln", *TINY]


def write_images(directory: Path, side: int, value: int | None = None) -> None:
    rng = np.random.default_rng(0)
    directory.mkdir()
    for part, count in (("train", 64), ("t10k", 20)):
        images = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 3)):
            if value is not None and array is images:
                array = np.full_like(images, value)
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (directory / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())


def descendants(pid: int) -> list[int]:
    """Return the children of the process, their children, and so on."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        waiting += map(int, children)
        found += map(int, children)
    return found
