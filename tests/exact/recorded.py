"""Results recorded on one processor, which every processor must reproduce bit by bit.

    python -m exact.recorded      in the directory tests: records the results of this processor

Record again only after an intended change of the arithmetic. `test_recorded.py` checks the recorded results against
exact rationals as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exact.batches import Batch, normalized, shares_of_gradients

FILE = Path(__file__).with_name("recorded.npz")
DTYPES = ("float16", "float32", "float64")
REDUCTIONS = ("exact", "float64")
SHAPES = ((5, 3, 37), (33, 9), (2, 2, 130))


def batch(shape: tuple[int, ...], dtype: str) -> Batch:
    """Return a batch made without a mathematical library, whose last bits differ between processors."""
    rng = np.random.default_rng(3)
    x, dy = (rng.integers(-(2**10), 2**10, (2, *shape)) / 2**7).astype(dtype)
    weight, bias = (rng.integers(1, 2**8, (2, shape[1])) / 2**6).astype(dtype)
    return Batch(x, dy, weight, bias, None, 1e-5)


def results(batch: Batch, reduction: str) -> dict[str, NDArray[Any]]:
    """Return y, the moments and all gradients of a batch in one process."""
    return normalized(batch, reduction=reduction) | shares_of_gradients(batch, reduction=reduction)


def name(shape: tuple[int, ...], dtype: str, reduction: str) -> str:
    """Return the beginning of the names of a batch's arrays in the file."""
    return f"{dtype}, {reduction}, {'x'.join(map(str, shape))}, "


def recorded(shape: tuple[int, ...], dtype: str, reduction: str) -> dict[str, NDArray[Any]]:
    """Return the recorded results of a batch."""
    prefix = name(shape, dtype, reduction)
    with np.load(FILE) as arrays:
        return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def main() -> None:
    """Record the results of this processor."""
    arrays = {
        name(shape, dtype, reduction) + key: array
        for shape in SHAPES
        for dtype in DTYPES
        for reduction in REDUCTIONS
        for key, array in results(batch(shape, dtype), reduction).items()
    }
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
