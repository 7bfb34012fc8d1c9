"""The claim that batch normalization allows higher learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart
from syncbn.experiments.claims.check import less
from syncbn.experiments.claims.claim import Claim, Conclusion, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.work import cells, error, fit, images, lines, summary, values
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.train import Progress

NORMS = ("none", "bn")

FINE = (0.003, 0.005, 0.01, 0.018, 0.03, 0.05, 0.1, 0.18, 0.3, 0.5, 1.0, 1.8, 3.0)
"""Learning rates of the full effort, four in each decade."""

TOLERANCE = 0.05
"""A learning rate works if the error is at most this much above that of the best learning rate."""


LINES = (("error", 100.0), ("steps", 1.0))


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; ``goal`` is the error on the test images to which steps are counted."""

    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    depth: int = 6
    batch: int = 32
    epochs: int = 3
    goal: float = 0.3
    every: int = 10


class LearningRate(Claim[Settings]):
    """Error, divergence and steps to a fixed error by learning rate, with and without batch normalization."""

    name = "learning-rate"
    title = "Higher learning rates"
    statement = "Batch normalization allows higher learning rates, with which training needs fewer steps."
    question = "Up to which learning rate does a network train, and how soon does it reach a fixed error?"
    method = (
        "A network of six hidden layers of 64 units is trained with SGD (momentum 0.9, batches of 32) at learning "
        "rates over three decades. The same seeds give the same initial weights and order of the images. A run that "
        "diverges has the error of a random guess. Steps are counted until at most 30 % of the test images are wrong,"
        " which is determined every ten steps; a run that never gets there counts with all of its steps."
    )
    rule = (
        "Two checks: the largest learning rate that works (error at most 5 points above the best of the same seed and"
        " network) is larger with BN; and at the learning rate that reaches the goal soonest, BN needs fewer steps."
    )
    published = (
        "Ioffe & Szegedy 2015 (figure 3): Inception needs 31.0 million steps to 72.2 % accuracy; with BN 13.3 million, "
        "with BN and 5 times the learning rate 2.1 million, with 30 times 2.7 million."
    )
    caveats = (
        "The learning rate is constant; a warm-up would let both networks use larger ones.",
        "The fastest learning rate of each network is chosen on the runs that are then compared, for both alike.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(rates=(0.03, 3.0), depth=2, epochs=1, every=4),
        "quick": Settings(),
        "full": Settings(rates=FINE, epochs=5),
    }

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (there is no search)
        """Return one training run for each learning rate, network and seed."""
        return [
            Piece({"norm": norm, "lr": rate, "seed": seed}, 0.4 * self.settings(setup).epochs)
            for seed in setup.seeds
            for rate in self.settings(setup).rates
            for norm in NORMS
        ]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error and the steps to the goal."""
        settings, data = self.settings(context.setup), images(context)
        model = mlp(data.pixels, context.setup.classes, key["seed"], normalizer(key["norm"]), depth=settings.depth)
        steps = 0
        goal: int | None = None

        def watch(progress: Progress) -> None:
            nonlocal steps, goal
            steps += 1
            if goal is None and steps % settings.every == 0 and math.isfinite(progress.loss):
                goal = steps if error(model, data.x_test, data.y_test) <= settings.goal else None

        diverged = fit(
            model,
            data.x,
            data.y,
            context.comm,
            lr=key["lr"],
            batch=settings.batch,
            epochs=settings.epochs,
            seed=key["seed"],
            on_step=watch,
        )
        planned = settings.epochs * (len(data.x) // settings.batch)
        return {
            "error": context.setup.chance if diverged else error(model, data.x_test, data.y_test),
            "diverged": diverged,
            "steps": goal if goal is not None and not diverged else planned,
            "reached": goal is not None and not diverged,
        }

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the largest learning rates that work, and the fewest steps."""
        rates = self.settings(setup).rates
        largest = {norm: _largest_rates(results, rates, norm) for norm in NORMS}
        steps = {norm: {rate: values(results, "steps", norm=norm, lr=rate) for rate in rates} for norm in NORMS}
        fastest = {norm: min(rates, key=lambda rate, norm=norm: np.mean(steps[norm][rate])) for norm in NORMS}  # type: ignore[misc]
        fewest = {norm: steps[norm][fastest[norm]] for norm in NORMS}
        decades = {norm: np.log10(largest[norm]).tolist() for norm in NORMS}
        checks = [
            less(
                "The largest learning rate that works is smaller without BN.",
                decades["none"],
                decades["bn"],
                factor=1,
                unit="(log10)",
            ),
            less(
                "At its fastest learning rate, the network with BN reaches the goal in fewer steps.",
                fewest["bn"],
                fewest["none"],
                factor=1,
                unit="steps",
            ),
        ]
        numbers = {
            "largest_rate": {norm: [float(rate) for rate in largest[norm]] for norm in NORMS},
            "fastest_rate": fastest,
            "steps_to_goal": {norm: summary(fewest[norm]) for norm in NORMS},
            "cells": cells(results, "error", "diverged", "reached", "steps"),
        }
        settings = {NORMALIZERS[norm].label: {"norm": norm} for norm in NORMS}
        by_error, by_steps = (lines(results, number, settings, "lr", rates, factor) for number, factor in LINES)
        x = "learning rate"
        charts = [
            Chart("error", "Test error by learning rate", x, "test error (%)", by_error, "log"),
            Chart("steps", "Steps to the goal", x, "training (steps)", by_steps, "log", "log"),
        ]
        return Conclusion(checks, numbers, charts)


def _largest_rates(results: Sequence[Result], rates: Sequence[float], norm: str) -> list[float]:
    """Return the largest learning rate that works, for each seed."""
    errors_rs = np.array([values(results, "error", norm=norm, lr=rate) for rate in rates])
    works_rs = errors_rs <= errors_rs.min(axis=0) + TOLERANCE
    return [max(rate for rate, works in zip(rates, works_r, strict=True) if works) for works_r in works_rs.T]
