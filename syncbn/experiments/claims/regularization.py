"""The claim that batch normalization regularizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from syncbn.experiments.claims.chart import Chart
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import by_seed, cells, compare_errors, compare_finished, lines, summary
from syncbn.experiments.claims.work import counted, error, images, trained

VARIANTS: Mapping[str, tuple[str, float, float]] = {
    "none": ("none", 0.0, 0.0),
    "BN": ("bn", 0.0, 0.0),
    "dropout": ("none", 0.3, 0.0),
    "weight decay": ("none", 0.0, 1e-3),
}
"""Normalizer, probability of dropout and weight decay of each variant. Another one is one line."""


WORSE = 0.005
"""A test error is not worse if it is at most this much larger."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; ``samples`` is the number of training images."""

    samples: int = 500
    batches: tuple[int, ...] = (4, 16, 64, 250)
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    epochs: int = 30


class Regularization(SearchedClaim[Settings]):
    """Gap between test and training error with few images, by batch size, against dropout and weight decay."""

    name = "regularization"
    title = "A regularizer"
    statement = "Batch normalization regularizes: the noise of the batch statistics narrows the gap to the test error."
    question = "How far apart are test and training error with few images, and is batch size the dial?"
    method = (
        "A network of two hidden layers of 64 units is trained on 500 images for 30 epochs (SGD, momentum 0.9), "
        "plain, with BN, with dropout 0.3 and with weight decay 0.001. Every seed has its own images, weights and "
        "order. The learning rate is searched for each variant and batch size. The gap is test error minus error on "
        "the training images, both in evaluation mode."
    )
    rule = (
        "Three checks: over all batch sizes, the gap is smaller with BN than without anything; so is the test error; "
        "and with BN the gap is smaller at the smallest batch than at the largest. A smaller gap counts only if the "
        "test error is at most 0.5 points larger, since a network that learns less has a small gap too. A seed with a "
        "run that diverged counts for neither side of a gap."
    )
    published = (
        "Ioffe & Szegedy 2015: with BN dropout can be reduced or removed. Hoffer et al. 2017 and Summers & Dinneen "
        "2020: statistics of small virtual batches improve generalization at large batches."
    )
    caveats = (
        "The rule was changed after a quick run had been seen: before, a smaller gap counted with any test error.",
        "The batch size changes the number of steps as well as the noise of the statistics.",
        "Dropout and weight decay have one strength each, which is not searched: they are drawn for scale.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(samples=64, batches=(4, 16), rates=(0.03,), epochs=1),
        "quick": Settings(batches=(4, 32, 250), rates=(0.01, 0.03, 0.1), epochs=15),
        "full": Settings(),
    }

    def variants(self, setup: Setup) -> list[Key]:
        """Return the keys of all variants and batch sizes."""
        return [{"variant": name, "batch": batch} for batch in self.settings(setup).batches for name in VARIANTS]

    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""
        settings = self.settings(setup)
        return 1.2e-3 * settings.epochs * settings.samples / int(variant["batch"])

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train on few images, and return both errors and their difference."""
        settings = self.settings(context.setup)
        data = images(context, key["seed"], samples=settings.samples)
        norm, dropout, decay = VARIANTS[key["variant"]]
        model = mlp(data.pixels, context.setup.classes, key["seed"], normalizer(norm), dropout=dropout)
        numbers = trained(model, data, context, key, batch=key["batch"], epochs=settings.epochs, decay=decay)
        on_training = counted(error(model, data.x, data.y), context, numbers["diverged"])
        return {**numbers, "training_error": on_training, "gap": numbers["error"] - on_training}

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the gaps and the test errors."""
        batches = self.settings(setup).batches
        bn, none = ({"variant": name} for name in ("BN", "none"))
        small, large = ({**bn, "batch": batch} for batch in (batches[0], batches[-1]))

        def narrower(text: str, a: Key, b: Key) -> Check:
            """Return the check that the gap is less in setting a than in b, while the test error is not worse."""
            gap = compare_finished(text, results, a, b, ("gap", "gap"), "points", factor=100.0)
            level = compare_errors(setup, "", results, a, b, margin=WORSE)
            evidence = f"{gap.evidence}; test error {level.evidence}"
            return replace(gap, outcome=gap.outcome if level.outcome or not gap.outcome else None, evidence=evidence)

        checks = [
            narrower("The gap is smaller with BN than without anything, and the test error no worse.", bn, none),
            compare_errors(setup, "The test error is smaller with BN than without anything.", results, bn, none),
            narrower(
                f"With BN the gap is smaller at batches of {batches[0]} than of {batches[-1]}, and the test error no "
                "worse.",
                small,
                large,
            ),
        ]
        numbers = {
            "gap": {name: summary(by_seed(results, "gap", variant=name)) for name in VARIANTS},
            "cells": cells(results, "error", "training_error", "gap", "diverged"),
        }
        variants: Mapping[str, Key] = {name: {"variant": name} for name in VARIANTS}
        charts = [
            Chart(
                name,
                title,
                "batch (samples)",
                f"{title.lower()} (%)",
                lines(results, name, variants, "batch", batches),
                "log",
            )
            for name, title in (("gap", "Test error minus training error"), ("error", "Test error"))
        ]
        return Conclusion(checks, numbers, charts)
