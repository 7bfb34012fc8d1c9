"""Each claim in seconds: pieces, numbers, checks and charts, in one process or on ranks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from syncbn.comm import SERIAL
from syncbn.data import load
from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.check import VERDICTS, verdict
from syncbn.experiments.claims.runner import run_claims
from syncbn.experiments.claims.setup import EFFORTS, SEARCH_SEED, SEEDS, Context, Setup
from syncbn.experiments.claims.store import Store

SETUP = Setup("smoke", (0, 1), 1, 10)
NEED_RANKS = ("small-batch", "exact")


def check_claim(finished, setup):
    """Assert that a finished claim is complete and can be written as JSON."""
    conclusion = finished.conclusion
    assert verdict(conclusion.checks) in VERDICTS
    assert conclusion.charts
    json.dumps(conclusion.numbers, allow_nan=False)
    keys = [json.dumps(result.key) for result in (*finished.search, *finished.results)]
    assert len(set(keys)) == len(keys)
    assert {result.key["seed"] for result in finished.results} == set(setup.seeds)
    assert {result.key["seed"] for result in finished.search} <= {SEARCH_SEED}
    names = [chart.name for chart in conclusion.charts]
    assert len(set(names)) == len(names)
    assert all(series.points for chart in conclusion.charts for series in chart.series)


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in NEED_RANKS])
def test_in_one_process(tmp_path, name):
    store = Store(tmp_path, SETUP, {})
    (finished,) = run_claims([CLAIMS[name]], SETUP, load(), SERIAL, store)
    check_claim(finished, SETUP)
    (again,) = run_claims([CLAIMS[name]], SETUP, load(), SERIAL, store)
    assert again.results == finished.results  # the seconds too: nothing is measured again
    assert again.conclusion == finished.conclusion


@pytest.mark.ranks
@pytest.mark.parametrize("name", NEED_RANKS)
def test_on_ranks(comm, name):
    setup = replace(SETUP, ranks=comm.size)
    if comm.size == 1:
        with pytest.raises(ValueError, match="--ranks 2"):
            CLAIMS[name].check(setup)
        return
    CLAIMS[name].check(setup)
    finished = run_claims([CLAIMS[name]], setup, load(), comm)
    assert len(finished) == (comm.rank == 0)
    for each in finished:
        check_claim(each, setup)
    if name == "exact" and comm.rank == 0:
        numbers = finished[0].conclusion.numbers
        assert numbers["batches_with_equal_bits"]["exact"] == numbers["batches_compared"] > 0
        distances = {key: found[0]["mean"] for key, found in numbers["relative_distance"].items()}
        assert distances["syncbn"] < 1e-5 < 1e-3 < distances["bn"]


@pytest.mark.ranks
def test_numbers_of_local_claims_do_not_depend_on_the_ranks(comm):
    claim = CLAIMS["placement"]
    (finished,) = run_claims([claim], SETUP, load(), SERIAL)
    for each in run_claims([claim], replace(SETUP, ranks=comm.size), load(), comm):
        assert [(r.key, r.numbers) for r in each.results] == [(r.key, r.numbers) for r in finished.results]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", CLAIMS)
def test_the_number_of_pieces_is_known_before_the_search(name, effort):
    claim, setup = CLAIMS[name], Setup(effort, SEEDS[effort], 4, 10)
    claim.check(setup)
    pieces = claim.pieces(setup, [])
    seeds = [piece.key["seed"] for piece in pieces]
    assert [seeds.count(seed) for seed in setup.seeds] == [len(pieces) // len(setup.seeds)] * len(setup.seeds)
    assert all(piece.cost > 0 for piece in (*claim.search(setup), *pieces))
    settings = [{k: v for k, v in piece.key.items() if k != "seed"} for piece in claim.search(setup)]
    rates = sorted({setting["lr"] for setting in settings})
    variants = {json.dumps({k: v for k, v in setting.items() if k != "lr"}) for setting in settings}
    assert len(settings) == len(rates) * len(variants)  # the same learning rates for every variant


def test_full_effort_has_at_least_five_seeds():
    assert len(SEEDS["full"]) >= 5
    assert all(seed < SEARCH_SEED for seeds in SEEDS.values() for seed in seeds)


def test_a_diverged_run_has_the_error_of_a_guess():
    claim = CLAIMS["learning-rate"]
    with np.errstate(all="ignore"):
        numbers = claim.measure({"norm": "none", "lr": 1e18, "seed": 0}, Context(SETUP, load(), SERIAL))
    assert numbers["diverged"]
    assert numbers["error"] == SETUP.chance == 0.9
    assert not numbers["reached"]
