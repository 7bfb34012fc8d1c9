"""Rules of the advice of ``syncbn bench``."""

from __future__ import annotations

from typing import Any

import pytest

from syncbn.experiments.bench.advice import group_advice, rank_advice, reduction_advice, thread_advice
from syncbn.experiments.bench.kernels import PASSES, kernel_speeds
from syncbn.experiments.scale.measurement import Measurement


def kernels(times: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {"threads": threads, "microseconds": {"copy": 1.0, "forward": total / 2, "backward": total / 2}}
        for threads, total in times.items()
    ]


@pytest.mark.parametrize(
    ("times", "cores", "ranks", "expected"),
    [
        ({1: 100, 2: 55, 4: 30}, 4, 1, 4),
        ({1: 100, 2: 55, 4: 50}, 4, 1, 2),  # the last doubling gains too little
        ({1: 100, 2: 95, 4: 60}, 4, 1, 4),  # the first doubling gains too little, both together enough
        ({1: 100, 2: 55, 4: 30}, 4, 2, 2),  # at most the cores ÷ ranks
        ({1: 100, 2: 55, 4: 30}, 4, 4, 1),
        ({1: 100, 2: 300}, 2, 1, 1),
        ({1: 100, 2: 55}, 2, 8, 1),
    ],
)
def test_threads(times: dict[int, float], cores: int, ranks: int, expected: int) -> None:
    assert thread_advice(kernels(times), cores, ranks).value == expected


def test_threads_without_measurements() -> None:
    assert thread_advice([], 8, 2).value == 4


def test_ranks() -> None:
    assert rank_advice(cores=4, ranks=2).value == 2
    assert rank_advice(cores=4, ranks=4).value == 4
    advice = rank_advice(cores=2, ranks=4)
    assert advice.value == 2
    assert "4 ranks share" in advice.reason


@pytest.mark.parametrize(
    ("batch", "ranks", "expected"),
    [(2, 1, None), (2, 4, None), (2, 8, None), (2, 64, 8), (1, 64, 16), (3, 64, 6), (32, 64, 1)],
)
def test_group_size(batch: int, ranks: int, expected: int | None) -> None:
    assert group_advice(batch, ranks).value == expected
    assert ("measure several" in group_advice(batch, ranks).reason) == (ranks == 1)


@pytest.mark.parametrize(("exact", "expected"), [(100, "exact"), (125, "exact"), (130, "float64")])
def test_reduction(exact: float, expected: str) -> None:
    layers = {"local": 80.0, "float64": 100.0, "exact": exact}
    assert reduction_advice(Measurement(2, 1.0, [], 0.0, layers, [], 1.0)).value == expected


def test_speeds_are_bytes_over_time() -> None:
    (row,) = kernel_speeds([(4, 8)], threads=2, rounds=1)
    for name, passes in PASSES.items():
        assert row["gigabytes"][name] == pytest.approx(passes * 4 * 8 * 4 / row["microseconds"][name] / 1e3)
