"""Made results of every claim, in which it is confirmed, contradicted, undecided, or all runs diverged."""

from __future__ import annotations

from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.claim import Result
from syncbn.experiments.claims.epsilon import EPSILONS, STDS
from syncbn.experiments.claims.inference import SOURCES
from syncbn.experiments.claims.momentum import NAMES
from syncbn.experiments.claims.setup import Setup

SETUP = Setup("quick", (0, 1, 2, 3, 4), 4, 10)

CHANCE = SETUP.chance


def made(case, seed, favoured, less=0.2, more=0.4):
    """Return a number of a run: less for the favoured side if the claim holds, more if it is contradicted."""
    if case == "undecided":
        return (less + more) / 2 + (more - less) / 2 * favoured * (-1) ** seed
    return (less if favoured == (case == "holds") else more) + 1e-4 * seed * favoured


def error_of(case, seed, favoured, **numbers):
    if case == "diverged":
        return {"error": CHANCE, "diverged": True, **numbers}
    return {"error": made(case, seed, favoured), "diverged": False, **numbers}


def learning_rate(key, case):
    limits = {"holds": (0.1, 1.0), "contradicted": (1.0, 0.1), "undecided": (0.3, 0.3), "diverged": (0, 0)}[case]
    works = key["lr"] <= limits[key["norm"] == "bn"]
    steps = made(case, key["seed"], key["norm"] == "bn", 100, 200) if works else 279
    return {"error": 0.1 if works else CHANCE, "diverged": not works, "steps": steps, "reached": works}


def covariate_shift(key, case):
    name, seed = key["variant"], key["seed"]
    order = {"holds": ("BN", "none", "noisy BN"), "contradicted": ("none", "BN", "noisy BN")}.get(case)
    if case == "diverged":
        return {"error": CHANCE, "diverged": True, "shift": None, "layers": [None], "roughness": None}
    shift = 0.2 + 0.1 * (-1) ** seed * (name == "none") if order is None else 0.1 * (1 + order.index(name))
    by_error = ("BN", "none", "noisy BN") if case != "contradicted" else ("BN", "noisy BN", "none")
    error = 0.2 + 0.1 * by_error.index(name) + 1e-4 * seed * (name == "BN")
    return {"error": error, "diverged": False, "shift": shift, "layers": [shift], "roughness": 1.0 + 1e-3 * seed}


def regularization(key, case):
    favoured = key["variant"] == "BN"
    if case == "diverged":
        return {"error": CHANCE, "training_error": CHANCE, "gap": 0.0, "diverged": True}
    gap = made(case, key["seed"], favoured)
    if favoured and case != "undecided":
        gap += {"holds": 1e-4, "contradicted": -1e-4}[case] * key["batch"]
    return {**error_of(case, key["seed"], favoured), "training_error": 0.1, "gap": gap}


def small_batch(key, case):
    weak = key["norm"] == "bn" and key["batch"] == 2
    return error_of(case, key["seed"], not weak)


def inference(key, case):
    seed = key["seed"]
    favoured = {"recalibrated": 2, "0.9": 1, "batch": 0}
    if case == "diverged":
        errors, changes = dict.fromkeys(SOURCES, CHANCE), (None, None)
    else:
        errors = dict.fromkeys(SOURCES, 0.35)
        errors |= {name: made(case, seed, at, 0.2, 0.4) if at != 1 else 0.3 for name, at in favoured.items()}
        if case != "undecided":
            errors["recalibrated"], errors["batch"] = (0.2, 0.5) if case == "holds" else (0.5, 0.2)
        changes = (0.0, 1.0)
    return {
        "error": 0.2,
        "errors": errors,
        "diverged": case == "diverged",
        **dict(zip(("change_in_evaluation", "change_in_training"), changes, strict=True)),
    }


def placement(key, case):
    return error_of(case, key["seed"], key["place"] == "before")


def epsilon(key, case):
    if key["part"] == "layer":
        channels = [
            {"std": std, "formula_finite": std > 0 or key["eps"] > 0, "finite": True, "gain": 1.0} for std in STDS
        ]
        return {"channels": channels}
    return {**error_of(case, key["seed"], key["eps"] == EPSILONS[3]), "constant": 0.1}


def overhead(key, case):
    share = {"holds": 0.02, "contradicted": 0.3, "undecided": 0.1 + 0.05 * (-1) ** key["seed"], "diverged": 0.0}[case]
    shares = {"none": 0.0, **dict.fromkeys(("bn", "syncbn", "gn", "ln"), share + 1e-4 * key["seed"])}
    counts = {"units": [64], "parameters": 128, "statistics": 128, "as_stated": True}
    folding = {"difference": 1e-7, "seconds": 1.0, "seconds_folded": 0.5}
    return {
        "time_share": shares,
        "memory_share": shares,
        "counts": counts,
        "folding": folding,
        "diverged": case == "diverged",
    }


def drift(key, case):
    seed, bn = key["seed"], key["norm"] == "bn"
    if case == "diverged":
        errors = dict.fromkeys(("error", "late_stream", "late_adapted"), CHANCE)
    else:
        online = made(case, seed, bn)
        frozen = online if key["part"] == "online" else 0.3
        adapted = {"holds": 0.2, "contradicted": 0.4, "undecided": 0.3 + 0.1 * (-1) ** seed}[case] + 1e-4 * seed
        errors = {"error": 0.3, "late_stream": frozen, "late_adapted": adapted}
    return {
        **errors,
        "stream": [errors["late_stream"]] * 8,
        "adapted": [errors["late_adapted"]] * 8,
        "diverged": case == "diverged",
    }


def not_always(key, case):
    return error_of(case, key["seed"], key["norm"] == "none")


def momentum(key, case):
    errors = {**dict.fromkeys(NAMES, 0.3), "recalibrated": CHANCE if case == "diverged" else 0.3}
    errors["0.99"] = CHANCE if case == "diverged" else made(case, key["seed"], True, 0.2999, 0.4)
    if case == "undecided":
        errors["0.99"] = 0.3 + 0.1 * (-1) ** key["seed"]
    one = {"errors": errors, "distances": dict.fromkeys(NAMES, 0.1)}
    return {"lengths": [one] * 5, "monitored": {"steps": [1], "mean_distance": [0.5]}, "diverged": case == "diverged"}


def exact(key, case):
    if key["part"] == "bits":
        equal = {"holds": 5, "contradicted": 4}.get(case, 0)
        compared = 0 if case in ("undecided", "diverged") else 5
        return {"compared": compared, "equal": {"exact": equal, "float64": 1}, "diverged": case == "diverged"}
    distances = {
        name: 0.0 if case == "diverged" else made(case, key["seed"], name == "syncbn", 1e-6, 0.1)
        for name in ("syncbn", "bn")
    }
    lists = {name: [distance] * 3 for name, distance in distances.items()}
    return {**lists, "last": distances, "diverged": case == "diverged"}


MADE = {
    "learning-rate": learning_rate,
    "covariate-shift": covariate_shift,
    "initialization": lambda key, case: error_of(case, key["seed"], key["norm"] == "bn"),
    "regularization": regularization,
    "small-batch": small_batch,
    "inference": inference,
    "placement": placement,
    "epsilon": epsilon,
    "overhead": overhead,
    "drift": drift,
    "not-always": not_always,
    "momentum": momentum,
    "exact": exact,
}


def concluded(name, numbers, setup=SETUP):
    """Return the conclusion of a claim on results whose numbers ``numbers(key)`` makes."""
    claim, found = CLAIMS[name], []
    while len(pieces := claim.search(setup, found)) > len(found):
        known = [result.key for result in found]
        found += [Result(piece.key, numbers(piece.key), 1.0) for piece in pieces if piece.key not in known]
    results = [Result(piece.key, numbers(piece.key), 1.0) for piece in claim.pieces(setup, found)]
    return claim.conclude(setup, found, results)


def outcomes(name, numbers, setup=SETUP):
    """Return the outcomes of the checks that count."""
    return [check.outcome for check in concluded(name, numbers, setup).checks if not check.fact]


def changed(name, case, **changes):
    """Return a function that makes the numbers of a case, and changes those that ``changes`` computes from the key."""
    return lambda key: {**MADE[name](key, case), **{number: make(key) for number, make in changes.items()}}
