"""Each claim in seconds: pieces, numbers, checks and charts, in one process or on ranks."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from syncbn.comm import SERIAL, SyncMismatchError
from syncbn.data import Dataset, load
from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.check import VERDICTS, verdict
from syncbn.experiments.claims.models import batch_norms, mlp
from syncbn.experiments.claims.placement import Placement
from syncbn.experiments.claims.runner import run_claims
from syncbn.experiments.claims.setup import EFFORTS, SEARCH_SEED, SEEDS, Context, Setup, check_images
from syncbn.experiments.claims.sources import TrackingBatchNorm, averages, recalibrated
from syncbn.experiments.claims.store import Store
from syncbn.experiments.claims.work import fit, fit_batches, images
from syncbn.train import predict

SETUP = Setup("smoke", (0, 1), 1, 10)
NEED_RANKS = ("small-batch", "exact")
DATA = load()


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
    setup = replace(SETUP, seeds=(0,))  # test_conclude.py has more seeds
    store = Store(tmp_path, setup, {})
    (finished,) = run_claims([CLAIMS[name]], setup, DATA, SERIAL, store)
    check_claim(finished, setup)
    (again,) = run_claims([CLAIMS[name]], setup, DATA, SERIAL, store)
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
    finished = run_claims([CLAIMS[name]], setup, DATA, comm)
    assert len(finished) == (comm.rank == 0)
    for each in finished:
        check_claim(each, setup)
    if name == "exact" and comm.rank == 0:
        numbers = finished[0].conclusion.numbers
        assert numbers["batches_with_equal_bits"]["exact"] == numbers["batches_compared"] > 0
        distances = {key: found[0]["mean"] for key, found in numbers["relative_distance"].items()}
        assert distances["syncbn"] < 1e-5 < 1e-3 < distances["bn"]


def test_a_run_that_diverged_has_no_drift():
    key = {"variant": "none", "lr": 1e30, "seed": 0}
    with np.errstate(all="ignore"):
        numbers = CLAIMS["covariate-shift"].measure(key, Context(SETUP, DATA, SERIAL))
    assert numbers["diverged"]
    assert [numbers["shift"], numbers["roughness"], *numbers["layers"]] == [None] * 4


@pytest.mark.ranks
def test_numbers_of_local_claims_do_not_depend_on_the_ranks(comm):
    claim = CLAIMS["placement"]
    (finished,) = run_claims([claim], SETUP, DATA, SERIAL)
    for each in run_claims([claim], replace(SETUP, ranks=comm.size), DATA, comm):
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


DIVERGING = {
    "learning-rate": {"norm": "none"},
    "covariate-shift": {"variant": "none"},
    "initialization": {"norm": "none", "depth": 2, "gain": 1.0},
    "regularization": {"variant": "none", "batch": 4},
    "small-batch": {"network": "mlp", "norm": "none", "batch": 8},
    "inference": {"batch": 2},
    "placement": {"activation": "ReLU", "place": "none"},
    "epsilon": {"part": "formula", "eps": 0.0},
    "drift": {"part": "online", "norm": "none"},
    "not-always": {"case": "tiny", "norm": "none"},
    "momentum": {"batch": 8},
}


def all_errors(numbers):
    """Yield all numbers whose name has the word error, and those of streams."""
    for name, value in numbers.items() if isinstance(numbers, dict) else enumerate(numbers):
        if isinstance(value, (dict, list)) and name not in ("stream", "adapted", "errors"):
            yield from all_errors(value)
        elif name in ("stream", "adapted", "errors"):
            yield from value.values() if isinstance(value, dict) else value
        elif "error" in str(name) or str(name).startswith("late"):
            yield value


@pytest.mark.parametrize(
    ("name", "part"),
    [*((name, None) for name in DIVERGING if name != "drift"), ("drift", "online"), ("drift", "test")],
)
def test_a_diverged_run_has_the_error_of_a_guess(monkeypatch, name, part):
    claim = CLAIMS[name]
    key = {**DIVERGING[name], "lr": 1e18, "seed": 0}
    key |= {"part": part} if part else {}
    if name == "momentum":
        monkeypatch.setattr(claim, "settings", lambda setup: replace(claim.efforts[setup.effort], lr=1e18))
    with np.errstate(all="ignore"):
        numbers = claim.measure(key, Context(SETUP, DATA, SERIAL))
    assert numbers["diverged"]
    assert set(all_errors(numbers)) == {SETUP.chance} == {0.9}
    assert not numbers.get("reached")
    json.dumps(numbers, allow_nan=False)


def test_a_parameter_that_is_not_finite_is_a_divergence():
    """The last step may break the parameters after its loss was finite."""
    data = images(Context(SETUP, DATA, SERIAL), 0)
    for train in (
        lambda model, lr: fit(model, data.x[:8], data.y[:8], SERIAL, lr=lr, batch=8, epochs=1, seed=0),
        lambda model, lr: fit_batches(model, data.x, data.y, [np.arange(8)], lr, lambda _: None),
    ):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the trainer says that the training has diverged
            assert train(mlp(data.pixels, 10, 0, None), 1e300)
            assert not train(mlp(data.pixels, 10, 0, None), 0.01)


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in NEED_RANKS])
def test_colour_images(rng, name):
    x_train, x_test = (rng.integers(0, 256, (n, 3, 8, 12), dtype=np.uint8) for n in (320, 100))
    y_train, y_test = (np.arange(n, dtype=np.uint8) % 10 for n in (320, 100))
    colours = Dataset("colours", "nowhere", x_train, y_train, x_test, y_test, tuple("abcdefghij"))
    check_images(colours, "smoke")
    context = Context(SETUP, colours, SERIAL)
    assert images(context, 0).x.shape == (256, 3, 4, 6)
    with np.errstate(all="ignore"):
        numbers = CLAIMS[name].measure(CLAIMS[name].pieces(SETUP, [])[-1].key, context)
    json.dumps(numbers, allow_nan=False)


def test_images_are_drawn_for_each_seed():
    context = Context(SETUP, DATA, SERIAL)
    by_seed = {seed: images(context, seed, samples=50) for seed in (0, 1, SEARCH_SEED)}
    assert np.array_equal(by_seed[0].x, images(context, 0, samples=50).x)
    assert np.array_equal(by_seed[0].x, images(context, 0).x[:50])
    for name in ("x", "x_held_out"):
        assert not np.array_equal(*(getattr(by_seed[seed], name) for seed in (0, 1)))

    def rows(x):
        return {image.tobytes() for image in x}

    training = set().union(*(rows(images(context, seed).x) for seed in range(40)))
    assert len(training) > 6000  # of all but the 64 of the search
    searched = rows(by_seed[SEARCH_SEED].x_held_out)
    assert len(searched) == 64
    assert not searched & rows(context.inputs(2).x_test)
    assert not searched & training
    assert rows(by_seed[0].x_held_out) <= rows(context.inputs(2).x_test)


def test_recalibration_changes_nothing():
    data = images(Context(SETUP, DATA, SERIAL), 0)
    model = mlp(data.pixels, 10, 0, lambda units: TrackingBatchNorm(units, (0.1, None)))
    fit(model, data.x, data.y, SERIAL, lr=0.01, batch=8, epochs=1, seed=0)
    before = model.state_dict()
    (mean, var), *_ = recalibrated(model, data.x, 8)
    assert {name: array.tobytes() for name, array in model.state_dict().items()} == {
        name: array.tobytes() for name, array in before.items()
    }
    first = predict(model[:2], data.x)
    assert mean == pytest.approx(first.mean(axis=0), rel=1e-4, abs=1e-5)
    assert var == pytest.approx(first.var(axis=0, ddof=1), rel=1e-4)
    (own_mean, own_var), *_ = averages(model, 0)  # the momentum of the layer itself, in float64
    layer = next(batch_norms(model))
    assert own_mean == pytest.approx(layer.running_mean, rel=1e-4, abs=1e-5)
    assert own_var == pytest.approx(layer.running_var, rel=1e-4)


class Failing(Placement):
    """A claim whose piece fails on one rank, or whose conclusion does."""

    def __init__(self, where):
        self.where = where

    def measure(self, key, _context):
        if self.where == "measure" and key["place"] == "none" and key["lr"] == 0.1:  # on one rank alone
            raise ZeroDivisionError("this piece fails")
        return {"error": 0.5, "diverged": False}

    def conclude(self, *_):
        raise ZeroDivisionError("this conclusion fails")


@pytest.mark.ranks
@pytest.mark.parametrize("where", ["measure", "conclude"])
def test_an_error_of_one_rank_reaches_all(comm, where):
    with pytest.raises((ZeroDivisionError, SyncMismatchError), match="fails"):
        run_claims([Failing(where), CLAIMS["exact"]], replace(SETUP, ranks=comm.size), DATA, comm)
    assert comm.allgather(comm.rank) == list(range(comm.size))  # the communicator remains usable
