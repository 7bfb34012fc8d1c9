"""Memory speed of batch normalization compared with that of a copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from syncbn.functional import batch_norm
from syncbn.typing import FloatArray

SHAPES: tuple[tuple[int, ...], ...] = ((8, 64, 112, 112), (8, 256, 28, 28), (8, 512, 7, 7), (4096, 256))
"""Shapes of float32 arrays: larger than all caches, in the last-level cache, in the L2 cache, and a dense layer."""

PASSES = {"copy": 2, "forward": 3, "backward": 5}
"""Number of times that each operation reads or writes the memory of an array: forward reads x twice and writes y,
backward reads x and dy twice and writes dx."""

MIN_SECONDS = 0.02
"""Shortest time of the calls that are timed together."""


def kernel_speeds(shapes: Sequence[tuple[int, ...]], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return the speed of copying, forward and backward for each shape as JSON values.

    Not collective. The three alternate, and each speed is a median over rounds: ``gigabytes`` is GB/s of the memory
    that is moved in all `PASSES`, ``microseconds`` is the time of one call.

    Parameters
    ----------
    shapes : sequence of tuple of int
    threads : int
        Number of threads of the kernels of this process (``OMP_NUM_THREADS``). A copy uses as many, or one if that
        is faster.
    rounds : int
    """
    with _copying(threads) as copy:
        return [_speeds(shape, threads, rounds, copy) for shape in shapes]


def _speeds(
    shape: tuple[int, ...], threads: int, rounds: int, copy: Callable[[FloatArray, FloatArray], None]
) -> dict[str, Any]:
    x, dy = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    weight, bias = np.ones((2, shape[1]), np.float32)
    target = np.empty_like(x)
    _, _, backward = batch_norm(x, weight, bias)
    work: dict[str, Callable[[], object]] = {
        "copy": lambda: copy(x, target),
        "forward": lambda: batch_norm(x, weight, bias),
        "backward": lambda: backward(dy),
    }
    repeats = {name: max(1, round(MIN_SECONDS / _seconds(call, 1))) for name, call in work.items()}
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            times[name].append(_seconds(call, repeats[name]))
    medians = {name: statistics.median(durations) for name, durations in times.items()}
    if threads > 1:  # a small array is copied before a second thread wakes up
        one_thread = [_seconds(lambda: np.copyto(target, x), repeats["copy"]) for _ in range(rounds)]
        medians["copy"] = min(medians["copy"], statistics.median(one_thread))
    return {
        "shape": list(shape),
        "threads": threads,
        "microseconds": {name: 1e6 * seconds for name, seconds in medians.items()},
        "gigabytes": {name: PASSES[name] * x.nbytes / seconds / 1e9 for name, seconds in medians.items()},
    }


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


@contextmanager
def _copying(threads: int) -> Iterator[Callable[[FloatArray, FloatArray], None]]:
    """Yield a function that copies an array with this number of threads; NumPy releases the GIL meanwhile."""
    if threads == 1:
        yield lambda source, target: np.copyto(target, source)
        return
    with ThreadPoolExecutor(threads) as pool:

        def copy(source: FloatArray, target: FloatArray) -> None:
            parts = (np.array_split(array.reshape(-1), threads) for array in (target, source))
            list(pool.map(np.copyto, *parts))

        yield copy
