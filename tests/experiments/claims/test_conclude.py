"""The verdict of every claim on made results: confirmed, contradicted, undecided, and all runs diverged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_results import CHANCE, MADE, SETUP, changed, concluded, outcomes

from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.check import verdict
from syncbn.experiments.claims.inference import MOMENTA, SOURCES
from syncbn.experiments.claims.setup import SEARCH_SEED

CASES = {"holds": "holds", "contradicted": "does not hold", "undecided": "not seen here", "diverged": "not seen here"}
"""Cases of the made results, and the verdict of each."""


def test_every_claim_has_made_results():
    assert list(MADE) == list(CLAIMS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", MADE)
def test_verdict(name, case):
    conclusion = concluded(name, lambda key: MADE[name](key, case))
    assert verdict(conclusion.checks) == CASES[case], [(check.text, check.evidence) for check in conclusion.checks]
    counted = [check for check in conclusion.checks if not check.fact]
    expected = {"holds": {True}, "contradicted": {False}}.get(case, {None})
    assert {check.outcome for check in counted} == expected
    assert all(chart.series for chart in conclusion.charts)


@pytest.mark.parametrize("name", MADE)
def test_one_seed_decides_nothing(name):
    if name == "exact":  # whose first check has no interval
        return
    assert set(outcomes(name, lambda key: MADE[name](key, "holds"), replace(SETUP, seeds=(0,)))) == {None}


FACTS = {"inference": 1, "epsilon": 2, "overhead": 2}


@pytest.mark.parametrize("name", MADE)
def test_facts_are_marked(name):
    checks = concluded(name, lambda key: MADE[name](key, "contradicted")).checks
    assert sum(check.fact for check in checks) == FACTS.get(name, 0)
    assert all(check.outcome for check in checks if check.fact)  # and yet the verdict is not "holds in part"
    assert verdict(checks) == "does not hold"


def shift_and_error(shift, error):
    """Return made numbers of covariate-shift: drift and error of none, BN and noisy BN."""
    names = ("none", "BN", "noisy BN")
    return changed(
        "covariate-shift",
        "holds",
        shift=lambda key: shift[names.index(key["variant"])],
        error=lambda key: error[names.index(key["variant"])] + 1e-4 * key["seed"] * (key["variant"] == "BN"),
    )


@pytest.mark.parametrize(
    ("shift", "error", "outcome"),
    [
        ((0.3, 0.1, 0.5), (0.3, 0.2, 0.4), True),
        ((0.3, 0.1, 0.5), (0.3, 0.4, 0.4), False),  # BN does not train better, so no reason is needed
        ((0.3, 0.1, 0.5), (0.3, 0.2998, 0.4), None),  # whether BN trains better is not known
        ((0.3, 0.1, 0.2), (0.3, 0.2, 0.4), None),  # noise does not raise the drift above that without BN
        ((0.3, 0.1, 0.5), (0.3, 0.2, 0.25), False),  # the noisy network trains better, though it drifts more
    ],
)
def test_the_reason_needs_a_gain_and_a_drift(shift, error, outcome):
    assert outcomes("covariate-shift", shift_and_error(shift, error)) == [True, outcome]


@pytest.mark.parametrize(("error", "outcome"), [(0.2, True), (0.2001, True), (0.4, None)])
def test_a_smaller_gap_needs_a_test_error_that_is_not_worse(error, outcome):
    numbers = changed("regularization", "holds", error=lambda key: error if key["variant"] == "BN" else 0.2)
    assert outcomes("regularization", numbers)[0] is outcome


def test_a_gap_of_a_run_that_diverged_counts_for_neither_side():
    numbers = changed(
        "regularization",
        "holds",
        diverged=lambda key: key["variant"] == "BN" and key["batch"] == 250,
        gap=lambda key: (
            0.0 if key["variant"] == "BN" and key["batch"] == 250 else 0.4 - 0.01 * (key["variant"] == "BN")
        ),
    )
    assert outcomes("regularization", numbers)[::2] == [None, None]


def test_a_run_that_diverged_has_no_place_among_the_drifts_of_the_others():
    """BN drifts by 0.1 where it did not diverge."""
    conclusion = concluded(
        "covariate-shift",
        lambda key: MADE["covariate-shift"](
            key, "diverged" if key["variant"] == "BN" and key["seed"] == 0 else "holds"
        ),
    )
    assert conclusion.checks[0].evidence.startswith("0.1 against 0.2 ")
    assert "runs of 1 of 5 seeds diverged" in conclusion.checks[0].evidence
    assert conclusion.numbers["shift"]["BN"]["mean"] is None
    (drift,) = (chart for chart in conclusion.charts if chart.name == "shift")
    assert [series.points[0].y for series in drift.series] == pytest.approx([0.2, None, 0.3], nan_ok=True)


def learning_rates(limit, steps):
    """Return made numbers of learning-rate: the largest rate that works, and the steps, of none and BN."""
    return changed(
        "learning-rate",
        "holds",
        error=lambda key: 0.1 if key["lr"] <= limit[key["norm"] == "bn"] else CHANCE,
        diverged=lambda key: key["lr"] > limit[key["norm"] == "bn"],
        steps=lambda key: steps[key["norm"] == "bn"],
    )


@pytest.mark.parametrize(
    ("limit", "steps", "expected"),
    [
        ((0.1, 0.3), (110, 100), [None, None]),  # one step of each grid
        ((0.1, 1.0), (120, 100), [True, True]),  # two
        ((0.1, 0.3), (100, 110), [None, None]),
        ((1.0, 0.1), (100, 120), [False, False]),
    ],
)
def test_an_interval_is_not_narrower_than_the_grid(limit, steps, expected):
    assert outcomes("learning-rate", learning_rates(limit, steps)) == expected


def test_a_network_that_never_trains_has_no_learning_rate_that_works():
    numbers = changed(
        "learning-rate", "holds", error=lambda key: CHANCE if key["norm"] == "bn" else 0.1, diverged=lambda _: False
    )
    assert outcomes("learning-rate", numbers)[0] is False


@pytest.mark.parametrize("seeds", [(SEARCH_SEED,), (0, 1, 2, 3, 4)])
def test_the_fastest_learning_rate_is_that_of_the_search(seeds):
    """At 0.01, BN is fast in the runs with these seeds and slow in all others."""

    def steps(key):
        return 50 if key["norm"] == "bn" and (key["lr"] == 0.01) == (key["seed"] in seeds) else 100

    numbers = changed("learning-rate", "holds", error=lambda _: 0.1, diverged=lambda _: False, steps=steps)
    fastest = concluded("learning-rate", numbers).numbers["fastest_rate"]["bn"]
    assert (fastest == 0.01) == (seeds == (SEARCH_SEED,))


@pytest.mark.parametrize("best", MOMENTA)
def test_the_best_average_is_that_of_the_search(best):
    def errors(key):
        others = dict.fromkeys(SOURCES, 0.3)
        if key["seed"] == SEARCH_SEED:
            return {**others, best: 0.1}
        return {**others, **dict.fromkeys(MOMENTA, 0.1), best: 0.35 + 1e-4 * key["seed"]}

    conclusion = concluded("inference", changed("inference", "holds", errors=errors))
    assert conclusion.numbers["best_average"] == best
    assert conclusion.checks[1].outcome is False


def test_nothing_was_compared():
    (fact,) = (
        check for check in concluded("inference", lambda key: MADE["inference"](key, "diverged")).checks if check.fact
    )
    assert fact.outcome is None
    assert "nothing was compared" in fact.evidence


@pytest.mark.parametrize(("exact", "control", "outcome"), [(5, 1, True), (4, 1, False), (5, 5, None), (4, 5, False)])
def test_equal_bits_need_a_control_that_differs(exact, control, outcome):
    numbers = changed("exact", "holds", equal=lambda _: {"exact": exact, "float64": control})
    assert outcomes("exact", numbers)[0] is outcome


@pytest.mark.parametrize("name", ["momentum", "epsilon", "overhead"])
def test_a_margin_does_not_help_a_run_that_diverged(name):
    """Both sides have the error of a guess: the difference is 0, and within any margin."""
    found = outcomes(name, lambda key: MADE[name](key, "diverged" if key["seed"] else "holds"))
    assert found
    assert not any(found)
