"""The claim that batch normalization allows higher learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart
from syncbn.experiments.claims.check import less
from syncbn.experiments.claims.claim import Claim, Conclusion, Key, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.setup import SEARCH_SEED, Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, lines, summary, values
from syncbn.experiments.claims.work import error, images, trained
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
    """Settings of the claim; ``goal`` is the error on the held-out images to which steps are counted."""

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
        "Two checks: the largest learning rate that works is larger with BN; and BN needs fewer steps, each network "
        "at the learning rate that reached the goal soonest in a search, on other images and with another seed. A "
        "learning rate works if the run does not diverge, has at most half the error of a random guess, and at most 5 "
        "points more than the best one of the same seed and network. If none works, the next one below the grid "
        "counts. An interval is never narrower than ± one step of the grid: the largest one of the learning rates, "
        "and ten training steps."
    )
    published = (
        "Ioffe & Szegedy 2015 (figure 3): Inception needs 31.0 million steps to 72.2 % accuracy; with BN 13.3 million, "
        "with BN and 5 times the learning rate 2.1 million, with 30 times 2.7 million."
    )
    caveats = (
        "The learning rate is constant; a warm-up would let both networks use larger ones.",
        "The rule was changed after a quick run had been seen: before, the fastest learning rate was chosen on the "
        "runs that were then compared, intervals could be narrower than the grid, and a network that trains at no "
        "learning rate counted as working at all.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(rates=(0.03, 3.0), depth=2, epochs=1, every=4),
        "quick": Settings(),
        "full": Settings(rates=FINE, epochs=5),
    }

    def search(self, setup: Setup, found: Sequence[Result] = ()) -> list[Piece]:  # noqa: ARG002 (it does not grow)
        """Return one run for each learning rate and network, to choose the fastest learning rate."""
        return self._runs(setup, SEARCH_SEED)

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (all learning rates)
        """Return one training run for each learning rate, network and seed."""
        return [piece for seed in setup.seeds for piece in self._runs(setup, seed)]

    def _runs(self, setup: Setup, seed: int) -> list[Piece]:
        settings = self.settings(setup)
        return [
            Piece({"norm": norm, "lr": rate, "seed": seed}, 0.4 * settings.epochs)
            for rate in settings.rates
            for norm in NORMS
        ]

    def search_table(self, setup: Setup, found: Sequence[Result]) -> list[Numbers]:
        """Return error and steps of each network and learning rate, and which is the fastest."""
        fastest = {norm: self._fastest(setup, found, norm) for norm in NORMS}
        return [
            {
                "norm": result.key["norm"],
                "lr": result.key["lr"],
                "error": result.numbers["error"],
                "steps": result.numbers["steps"],
                "chosen": result.key["lr"] == fastest[result.key["norm"]],
            }
            for result in found
        ]

    def search_notes(self, setup: Setup, found: Sequence[Result]) -> list[str]:
        """Return the networks whose fastest learning rate is at the edge of the grid."""
        rates = self.settings(setup).rates
        fastest = {norm: self._fastest(setup, found, norm) for norm in NORMS}
        return [
            f"{NORMALIZERS[norm].label}: the fastest learning rate of the search, {rate:g}, is at the edge of the grid."
            for norm, rate in fastest.items()
            if rate in (rates[0], rates[-1])
        ]

    def _fastest(self, setup: Setup, found: Sequence[Result], norm: str) -> float:
        """Return the learning rate that reached the goal in the fewest steps in the search, then in the smaller error.

        Without results it is the one in the middle.
        """
        ranks = {
            result.key["lr"]: (result.numbers["steps"], result.numbers["error"])
            for result in found
            if result.matches(norm=norm)
        }
        rates = self.settings(setup).rates
        return float(min(sorted(ranks), key=ranks.__getitem__)) if ranks else rates[len(rates) // 2]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error and the steps to the goal."""
        settings, data = self.settings(context.setup), images(context, key["seed"])
        model = mlp(data.pixels, context.setup.classes, key["seed"], normalizer(key["norm"]), depth=settings.depth)
        steps = 0
        goal: int | None = None

        def watch(progress: Progress) -> None:
            nonlocal steps, goal
            steps += 1
            if goal is None and steps % settings.every == 0 and math.isfinite(progress.loss):
                goal = steps if error(model, data.x_held_out, data.y_held_out) <= settings.goal else None

        numbers = trained(model, data, context, key, batch=settings.batch, epochs=settings.epochs, on_step=watch)
        planned = settings.epochs * (len(data.x) // settings.batch)
        reached = goal is not None and not numbers["diverged"]
        return {**numbers, "steps": goal if reached else planned, "reached": reached}

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:
        """Compare the largest learning rates that work, and the fewest steps."""
        settings, chance = self.settings(setup), setup.chance
        rates = settings.rates
        largest = {norm: _largest_rates(results, rates, norm, chance) for norm in NORMS}
        fastest = {norm: self._fastest(setup, found, norm) for norm in NORMS}
        fewest = {norm: values(results, "steps", norm=norm, lr=fastest[norm]) for norm in NORMS}
        lost = {norm: values(results, "diverged", norm=norm, lr=fastest[norm]) for norm in NORMS}
        decades = {norm: np.log10(largest[norm]).tolist() for norm in NORMS}
        checks = [
            less(
                "The largest learning rate that works is smaller without BN.",
                decades["none"],
                decades["bn"],
                grid=float(np.diff(np.log10(rates)).max()),
                factor=1,
                unit="(log10)",
            ),
            less(
                "Each at its fastest learning rate, the network with BN reaches the goal in fewer steps.",
                fewest["bn"],
                fewest["none"],
                grid=settings.every,
                lost=(lost["bn"], lost["none"]),
                factor=1,
                unit="steps",
            ),
        ]
        notes = [
            f"{NORMALIZERS[norm].label}: the largest learning rate of the grid works for "
            f"{sum(rate == rates[-1] for rate in largest[norm])} of {len(setup.seeds)} seeds: the limit is higher."
            for norm in NORMS
            if rates[-1] in largest[norm]
        ]
        numbers = {
            "largest_rate": {norm: [float(rate) for rate in largest[norm]] for norm in NORMS},
            "fastest_rate": fastest,
            "steps_to_goal": {norm: summary(fewest[norm]) for norm in NORMS},
            "cells": cells(results, "error", "diverged", "reached", "steps"),
        }
        networks: dict[str, Key] = {NORMALIZERS[norm].label: {"norm": norm} for norm in NORMS}
        by_error, by_steps = (lines(results, number, networks, "lr", rates, factor) for number, factor in LINES)
        x = "learning rate"
        charts = [
            Chart("error", "Test error by learning rate", x, "test error (%)", by_error, "log"),
            Chart("steps", "Steps to the goal", x, "training (steps)", by_steps, "log", "log"),
        ]
        return Conclusion(checks, numbers, charts, notes)


def _largest_rates(results: Sequence[Result], rates: Sequence[float], norm: str, chance: float) -> list[float]:
    """Return the largest learning rate that works, for each seed; if none does, the next one below the grid."""
    errors_rs = np.array([values(results, "error", norm=norm, lr=rate) for rate in rates])
    works_rs = errors_rs <= np.minimum(errors_rs.min(axis=0) + TOLERANCE, chance / 2)  # so no run that diverged
    below = rates[0] ** 2 / rates[1]
    return [
        max([rate for rate, works in zip(rates, works_r, strict=True) if works], default=below)
        for works_r in works_rs.T
    ]
