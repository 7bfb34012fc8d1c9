"""The search of learning rates: the grid grows where its end is best, for all variants alike, up to a limit."""

from __future__ import annotations

import json

import pytest

from syncbn.comm import SERIAL
from syncbn.data import load
from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.claim import Result
from syncbn.experiments.claims.placement import Placement
from syncbn.experiments.claims.report import ClaimsReport
from syncbn.experiments.claims.runner import run_claims
from syncbn.experiments.claims.searched import EXTENSIONS, SearchedClaim
from syncbn.experiments.claims.setup import EFFORTS, SEARCH_SEED, Setup
from syncbn.experiments.claims.store import Store
from syncbn.experiments.progress import Progress

SEARCHED = [name for name, claim in CLAIMS.items() if isinstance(claim, SearchedClaim)]


def searched(claim, setup, error):
    """Return the results of a search in which ``error(variant, lr)`` is the error of a run."""
    found, known = [], set()
    while True:
        keys = {json.dumps(piece.key): piece.key for piece in claim.search(setup, found)}
        if keys.keys() == known:
            return found
        for text in keys.keys() - known:
            variant = {name: value for name, value in keys[text].items() if name not in ("lr", "seed")}
            found.append(Result(keys[text], {"error": error(variant, keys[text]["lr"])}, 1.0))
        known = set(keys)


def rates_of(found, variant):
    return sorted(result.key["lr"] for result in found if result.matches(**variant))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", SEARCHED)
def test_every_variant_is_extended_alike(name, effort):
    claim, setup = CLAIMS[name], Setup(effort, (0,), 4, 10)
    grid = sorted(claim.settings(setup).rates)
    limit = EXTENSIONS[effort] if len(grid) > 1 else 0
    for sign, new in ((-1, slice(len(grid), None)), (1, slice(0, -len(grid)))):
        found = searched(claim, setup, lambda _, lr, sign=sign: 0.5 + sign * 1e-6 * lr)  # an end is the best
        for variant in claim.variants(setup):
            tried = rates_of(found, variant)
            assert set(grid) <= set(tried)
            assert len(tried[new]) == len(tried) - len(grid) == limit
            assert claim.rate(setup, found, variant) == (tried[0] if sign > 0 else tried[-1])
        if len(grid) == 1:
            continue  # nothing is searched
        (note,) = claim.search_notes(setup, found)
        assert note.count("largest, " if sign < 0 else "smallest, ") == len(claim.variants(setup))


def test_the_grid_grows_until_the_best_is_inside():
    claim, setup = Placement(), Setup("full", (0,), 1, 10)
    best = {"before": 0.9, "after": 0.01, "none": 0.0009}
    found = searched(claim, setup, lambda variant, lr: abs(lr - best[variant["place"]]))
    grid = [0.003, 0.01, 0.03, 0.1, 0.3]
    expected = {"before": [*grid, 0.9, 2.7], "after": grid, "none": [0.00027, 0.0009, *grid]}
    for variant in claim.variants(setup):
        assert rates_of(found, variant) == expected[variant["place"]]
        assert claim.rate(setup, found, variant) == best[variant["place"]]
    assert claim.search_notes(setup, found) == []
    chosen = [row for row in claim.search_table(setup, found) if row["chosen"]]
    assert [row["lr"] for row in chosen] == [best[variant["place"]] for variant in claim.variants(setup)]


class Extended(Placement):
    """A claim whose best learning rate is beyond the grid, without training."""

    def measure(self, key, _context):
        return {"error": abs(key["lr"] - 0.333), "diverged": False}


class Counting(Progress):
    """A progress that counts."""

    def __init__(self):
        self.total = self.done = 0

    def begin(self, pieces, _cost):
        self.total += pieces

    def extend(self, pieces, _cost):
        self.total += pieces

    def advance(self, pieces, _cost, *, kept=False):  # noqa: ARG002
        self.done += pieces


def test_a_run_extends_keeps_and_reports_the_search(tmp_path):
    setup, claim = Setup("quick", (0, 1), 1, 10), Extended()
    store = Store(tmp_path, setup, {})
    results = []
    for _ in range(2):  # the second run takes all pieces from the first
        progress = Counting()
        results += run_claims([claim], setup, load(), SERIAL, store, progress)
        assert progress.total == progress.done == 6 * 4 + 6 * 2
    assert results[0] == results[1]
    assert {result.key["lr"] for result in results[0].search} == {0.01, 0.03, 0.1, 0.33}
    assert {result.key["lr"] for result in results[0].results} == {0.33}
    assert {result.key["seed"] for result in results[0].search} == {SEARCH_SEED}

    report = ClaimsReport(tmp_path, setup, "data", results[:1])
    (as_json,) = report.as_json(complete=True)["claims"]
    assert "largest, 0.33" in as_json["notes"][-1]
    assert json.dumps(as_json["search"]).count('"chosen": true') == 6
