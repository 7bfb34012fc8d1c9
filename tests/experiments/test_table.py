"""Text of the table of a comparison."""

from __future__ import annotations

import pytest

from syncbn.experiments.results import Run, summarize
from syncbn.experiments.table import size, table


def run(norm: str, batch: int, seed: int, error: float, lr: float = 0.03, *, diverged: bool = False) -> Run:
    """Return a run of 100 steps."""
    return Run(
        norm,
        batch,
        seed,
        lr,
        epochs=[0.5, 1.0],
        train_losses=[2.0, 1.0],
        test_losses=[2.0, 0.5],
        test_errors=[0.9, error],
        steps=100,
        seconds=1.5,
        bytes_sent=100 * 2048,
        diverged=diverged,
    )


def test_table_of_several_seeds() -> None:
    runs = [run("syncbn", 8, seed, 0.2) for seed in range(3)]
    runs += [run("bn", 2, seed, 0.6 + 0.01 * seed) for seed in range(3)]
    runs += [run("syncbn", 2, seed, 0.2, diverged=seed == 1) for seed in range(3)]
    assert table(summarize(runs)) == "\n".join(
        [
            "batch/rank  normalizer       test error %      test loss  seconds  sent/step",
            "────────────────────────────────────────────────────────────────────────────",
            "         2  SyncBN      diverged (1 of 3)              –     1.50      2 KiB",
            "            BN                 61.0 ± 2.5  0.500 ± 0.000     1.50      2 KiB",
            "────────────────────────────────────────────────────────────────────────────",
            "         8  SyncBN             20.0 ± 0.0  0.500 ± 0.000     1.50      2 KiB",
            "────────────────────────────────────────────────────────────────────────────",
            "± 95% interval over 3 seeds; sent/step: bytes that one rank passes to collective calls",
        ]
    )


def test_a_column_for_each_learning_rate() -> None:
    runs = [run("none", 2, seed, 0.2, 0.01) for seed in range(2)]
    runs += [run("none", 2, seed, 0.9, 0.1, diverged=seed == 1) for seed in range(2)]
    runs += [run("bn", 2, seed, 0.2, lr) for seed in range(2) for lr in (0.1, 0.01)]
    runs += [run("bn", 8, seed, 0.2, 0.01) for seed in range(2)]  # the comparison was interrupted
    assert table(summarize(runs)) == "\n".join(
        [
            "batch/rank  normalizer  error % at 0.01     error % at 0.1  seconds  sent/step",
            "──────────────────────────────────────────────────────────────────────────────",
            "         2  none             20.0 ± 0.0  diverged (1 of 2)     1.50      2 KiB",
            "            BN               20.0 ± 0.0         20.0 ± 0.0     1.50      2 KiB",
            "──────────────────────────────────────────────────────────────────────────────",
            "         8  BN               20.0 ± 0.0                        1.50      2 KiB",
            "──────────────────────────────────────────────────────────────────────────────",
            "± 95% interval over 2 seeds; seconds: mean over learning rates; sent/step: bytes that one rank passes to "
            "collective calls",
        ]
    )


def test_one_seed_has_no_interval() -> None:
    text = table(summarize([run("bn", 2, 0, 0.25)]))
    assert "25.0 ± n/a" in text
    assert "one seed" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (8, "8 B"), (1010, "1010 B"), (2048, "2 KiB"), (220_000, "215 KiB"), (3e9, "2.79 GiB")],
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text
