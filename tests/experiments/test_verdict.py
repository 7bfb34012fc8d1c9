"""The verdict of a comparison for invented results of every kind."""

from __future__ import annotations

from syncbn.experiments.results import Cell, Run, summarize
from syncbn.experiments.verdict import verdict

CENTRED = (-0.001, 0.0, 0.001)  # an interval of ± 0.25 %


def cells(errors: dict[tuple[str, int], float | None], seeds: int = 3, lr: float = 0.03) -> list[Cell]:
    """Return the cells of runs with these test errors in %; None means that the first seed diverged."""
    runs = []
    for (norm, batch), error in errors.items():
        for seed in range(seeds):
            run = Run(norm, batch, seed, lr, epochs=[1.0], train_losses=[1.0], test_losses=[1.0], steps=10)
            run.diverged = error is None and seed == 0
            run.test_errors = [(error or 50.0) / 100 + (CENTRED[seed] if seeds > 1 else 0.0)]
            runs.append(run)
    return summarize(runs)


def test_bn_worse_at_small_batch_and_level_at_large() -> None:
    errors = {("none", 2): 17.0, ("bn", 2): 64.7, ("syncbn", 2): 17.8, ("gn", 2): 19.0, ("ln", 2): 17.5}
    errors |= {("none", 32): 30.0, ("bn", 32): 18.2, ("syncbn", 32): 18.0, ("gn", 32): 19.0, ("ln", 32): 17.5}
    assert verdict(cells(errors), ranks=4) == (
        "With 2 samples per rank on 4 ranks, BN has 64.7 % test error against 17.8 % with SyncBN and 17.5 % with LN; "
        "at 32 per rank BN and SyncBN are level (18.2 and 18.0 % test error)."
    )


def test_the_opposite() -> None:
    errors = {("bn", 2): 17.0, ("syncbn", 2): 20.0, ("ln", 2): 25.0, ("bn", 8): 30.0, ("syncbn", 8): 20.0}
    assert verdict(cells(errors), ranks=2) == (
        "With 2 samples per rank on 2 ranks, BN has 17.0 % test error, less than SyncBN (20.0 %) and LN (25.0 %); "
        "at 8 per rank BN has 30.0 % test error against 20.0 % with SyncBN."
    )


def test_mixed() -> None:
    errors = {("bn", 1): 20.0, ("syncbn", 1): 20.1, ("ln", 1): 25.0}
    assert verdict(cells(errors), ranks=4) == (
        "With 1 sample per rank on 4 ranks, BN has 20.0 % test error, level with SyncBN (20.1 %), "
        "less than LN (25.0 %)."
    )


def test_all_level() -> None:
    errors = {("bn", 2): 18.0, ("syncbn", 2): 18.1, ("gn", 2): 18.2}
    assert verdict(cells(errors), ranks=4) == (
        "With 2 samples per rank on 4 ranks, BN, SyncBN and GN are level (18.0, 18.1 and 18.2 % test error)."
    )


def test_one_seed_is_mentioned() -> None:
    errors = {("bn", 2): 64.7, ("syncbn", 2): 64.8}
    assert verdict(cells(errors, seeds=1), ranks=4) == (
        "With 2 samples per rank on 4 ranks, BN has 64.7 % test error against 64.8 % with SyncBN "
        "(one seed: no intervals, so differences may be due to chance)."
    )


def test_divergence_is_mentioned() -> None:
    errors = {("bn", 2): None, ("syncbn", 2): 17.8, ("ln", 2): 17.5, ("bn", 8): 18.0, ("syncbn", 8): None}
    assert verdict(cells(errors), ranks=4) == (
        "With 2 samples per rank on 4 ranks, BN diverged in 1 of 3 runs, SyncBN has 17.8 % test error and "
        "LN has 17.5 % test error; at 8 per rank SyncBN diverged in 1 of 3 runs and BN has 18.0 % test error."
    )


def test_without_bn_the_first_normalizer_is_compared_with_the_others() -> None:
    errors = {("none", 2): 17.0, ("ln", 2): 30.0, ("gn", 2): 20.0}
    assert verdict(cells(errors), ranks=1) == (
        "With 2 samples per rank on 1 rank, LN has 30.0 % test error against 20.0 % with GN."
    )


def test_a_single_normalizer() -> None:
    assert verdict(cells({("none", 2): 17.0, ("none", 4): 16.0}), ranks=1) == (
        "With 2 samples per rank on 1 rank, no normalization has 17.0 % test error."
    )


def test_several_learning_rates() -> None:
    slow = {("none", 2): 18.0, ("bn", 2): 56.0, ("syncbn", 2): 18.1, ("gn", 2): 19.0}
    slow |= {("none", 8): 18.0, ("bn", 8): 18.0, ("syncbn", 8): 18.2, ("gn", 8): 17.0}
    fast = {("none", 2): 60.0, ("bn", 2): None, ("syncbn", 2): 19.0, ("gn", 2): 21.0}
    fast |= {("none", 8): None, ("bn", 8): 18.0, ("syncbn", 8): 18.1, ("gn", 8): 18.2}
    found = [*cells(slow, lr=0.01), *cells(fast, lr=0.1)]
    assert verdict(found, ranks=4) == (
        "At learning rate 0.01, with 2 samples per rank on 4 ranks, BN has 56.0 % test error against 18.1 % with "
        "SyncBN and 19.0 % with GN; at 8 per rank BN and SyncBN are level (18.0 and 18.2 % test error). At 0.1, with 2 "
        "per rank, no normalization has 60.0 % test error against 19.0 % with SyncBN and 21.0 % with GN. In 4 "
        "settings, the interval of SyncBN's error is below that of no normalization in 2, of BN in 2 and of GN in 2, "
        "and above that of GN in 1."
    )


def test_several_learning_rates_and_one_seed() -> None:
    found = [*cells({("bn", 2): 20.0}, 1, 0.01), *cells({("bn", 2): 30.0}, 1, 0.1)]
    assert verdict(found, ranks=2) == (
        "At learning rate 0.01, with 2 samples per rank on 2 ranks, BN has 20.0 % test error (one seed: no intervals, "
        "so differences may be due to chance)."
    )


def test_no_runs() -> None:
    assert verdict([], ranks=4) == "There are no runs."
