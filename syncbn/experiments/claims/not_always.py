"""The claim that batch normalization does not always help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, compare_errors, values
from syncbn.experiments.claims.work import Images, fit_batches, images, tested
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.statistics import CONFIDENCE
from syncbn.layers import BatchNorm, Module
from syncbn.nn import Dense, Flatten, Sequential
from syncbn.train.run import Labels
from syncbn.typing import Int64Array

NORMS = ("none", "bn")


@dataclass(frozen=True)
class Case:
    """A case in which BN may hurt: network, training images (None: all) and batches."""

    title: str
    batch: int
    samples: int | None = None
    linear: bool = False
    sorted: bool = False
    """True if each batch has images of one class alone."""


CASES: Mapping[str, Case] = {
    "linear": Case("linear model", 32, linear=True),
    "tiny": Case("50 images", 10, samples=50),
    "pairs": Case("batches of 2", 2),
    "sorted": Case("one class per batch", 16, sorted=True),
}
"""All cases. Another one is one line."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; a case with few images has ``tiny_epochs`` epochs."""

    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    samples: int = 3000
    epochs: int = 2
    tiny_epochs: int = 40


class NotAlways(SearchedClaim[Settings]):
    """Cases in which batch normalization may increase the error."""

    name = "not-always"
    title = "Not always a gain"
    statement = "Batch normalization does not always help."
    question = "Is there a case in which the error is larger with BN, with the learning rate searched for both?"
    method = (
        "Four cases: softmax regression, with BN of the pixels; 50 training images; batches of 2; and batches of 16 "
        "images of one class. In the last three an MLP of two hidden layers is trained. The learning rate is searched"
        " for each case, with BN and without."
    )
    rule = (
        "One check: in at least one case the error is larger with BN. Since the check has four chances, its intervals "
        "have 98.75 % (Bonferroni). It is contradicted if BN has a smaller error in all cases."
    )
    published = (
        "Ioffe 2017: batches whose samples are not independent break BN. Wu & Johnson 2021: so do batches of one "
        "class or domain. Wu & He 2018: the error grows at small batches."
    )
    caveats = ("The cases were chosen because the literature suggests them, before anything was measured here.",)
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(rates=(0.03,), samples=256, epochs=1, tiny_epochs=2),
        "quick": Settings(rates=(0.003, 0.01, 0.03), samples=2000),
        "full": Settings(samples=6000),
    }

    def variants(self, setup: Setup) -> list[Key]:  # noqa: ARG002 (the same for all)
        """Return the keys of all cases and networks."""
        return [{"case": case, "norm": norm} for case in CASES for norm in NORMS]

    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""
        settings, case = self.settings(setup), CASES[variant["case"]]
        epochs = settings.tiny_epochs if case.samples else settings.epochs
        return 1e-3 * epochs * (case.samples or settings.samples) / case.batch

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error."""
        settings, case, seed = self.settings(context.setup), CASES[key["case"]], key["seed"]
        data = images(context, seed, samples=case.samples or settings.samples)
        model = _model(case, key["norm"], data, context.setup.classes, seed)
        epochs = settings.tiny_epochs if case.samples else settings.epochs
        batches = _batches(case, data.y, epochs, seed)
        diverged = fit_batches(model, data.x, data.y, batches, key["lr"], lambda _: None)
        return tested(model, data, context, diverged)

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the cases."""
        confidence = 1 - (1 - CONFIDENCE) / len(CASES)
        errors = {(c, norm): values(results, "error", case=c, norm=norm) for c in CASES for norm in NORMS}
        worse = {
            name: compare_errors(
                setup,
                f"{case.title}: larger with BN",
                results,
                {"case": name, "norm": "none"},
                {"case": name, "norm": "bn"},
                confidence=confidence,
            )
            for name, case in CASES.items()
        }
        outcomes = [check.outcome for check in worse.values()]
        outcome = True if any(outcomes) else False if outcomes == [False] * len(outcomes) else None
        evidence = "; ".join(f"{CASES[name].title}: {check.evidence}" for name, check in worse.items())
        check = Check(
            "In at least one case the error is larger with BN.", outcome, f"without BN against BN. {evidence}"
        )
        series = [
            Series(NORMALIZERS[norm].label, [point(CASES[c].title, errors[c, norm], 100) for c in CASES])
            for norm in NORMS
        ]
        chart = Chart("error", "Test error by case", "case", "test error (%)", series, "category")
        notes = [
            f"{CASES[name].title}: the error with BN is "
            + {True: "larger", False: "smaller", None: "neither larger nor smaller beyond the interval"}[each.outcome]
            + "."
            for name, each in worse.items()
        ]
        numbers = {
            "differences": {name: each.as_json()["interval"] for name, each in worse.items()},
            "cells": cells(results, "error", "diverged"),
        }
        return Conclusion([check], numbers, [chart], notes)


def _model(case: Case, norm: str, data: Images, classes: int, seed: int) -> Module:
    if not case.linear:
        return mlp(data.pixels, classes, seed, normalizer(norm))
    first = [BatchNorm(data.pixels)] if norm == "bn" else []
    return Sequential(Flatten(), *first, Dense(data.pixels, classes, rng=np.random.default_rng(seed)))


def _batches(case: Case, y: Labels, epochs: int, seed: int) -> Iterator[Int64Array]:
    """Yield the indices of each batch in random order; incomplete batches are left out."""
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(y))
        groups = [order[y[order] == label] for label in np.unique(y)] if case.sorted else [order]
        batches = [
            group[start : start + case.batch]
            for group in groups
            for start in range(0, len(group) - case.batch + 1, case.batch)
        ]
        for position in rng.permutation(len(batches)):
            yield batches[position]
