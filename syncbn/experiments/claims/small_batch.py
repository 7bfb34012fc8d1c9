"""The claim that batch normalization is weak at small batches, and that other normalizers are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from syncbn.comm import Communicator
from syncbn.experiments.claims.chart import Chart, Point, Series
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, compare_errors, lines
from syncbn.experiments.claims.work import images, trained
from syncbn.experiments.compare import POOL
from syncbn.experiments.config import LR_BATCH
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import NORMALIZERS, Network

PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "BN": (34.7, 27.3, 24.8, 23.7, 23.6),
    "GN": (24.1, 24.2, 24.0, 24.2, 24.1),
}
PUBLISHED_BATCHES = (2, 4, 8, 16, 32)
"""Validation errors in % of ResNet-50 on ImageNet by images per worker (Wu & He 2018, figure 1)."""


GROUPED = {"SyncBN2": 2, "SyncBN4": 4}
"""Variants of SyncBN with statistics of groups of so many ranks."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim.

    Attributes
    ----------
    norms : mapping
        Normalizers and variants of each network.
    batches : mapping
        Samples per rank and step of each network.
    rates : tuple of float
        Learning rates for a global batch of 32, scaled linearly with the global batch.
    samples, epochs : mapping
        Training images and passes over them, of each network.
    """

    norms: Mapping[Network, tuple[str, ...]]
    batches: Mapping[Network, tuple[int, ...]]
    samples: Mapping[Network, int]
    epochs: Mapping[Network, int]
    rates: tuple[float, ...] = (0.0125, 0.025, 0.05, 0.1)


class SmallBatch(SearchedClaim[Settings]):
    """Error by batch per rank for each normalizer."""

    name = "small-batch"
    title = "Small batches"
    statement = "Batch normalization is weak at small batches, and synchronized, group and layer normalization are not."
    question = "How does the error depend on the batch per rank, for each normalizer on the same ranks?"
    method = (
        "Data-parallel training of the networks of `syncbn compare` on all ranks: an MLP of two hidden layers, and in"
        " the full mode a residual network of five blocks on images of 7×7 pixels. The learning rate is searched for "
        "each network, normalizer and batch size; all see the same images in the same order. SyncBN2 and SyncBN4 take"
        " their statistics from groups of 2 and 4 ranks, if there are more."
    )
    rule = (
        "For each network, at its smallest batch: BN has a larger error than at its largest batch; and SyncBN, GN and"
        " LN each have a smaller error than BN. Other normalizers are shown without a check."
    )
    published = (
        "Wu & He 2018 (figure 1), ResNet-50 on ImageNet at 32, 16, 8, 4 and 2 images per worker: BN 23.6, 23.7, 24.8,"
        " 27.3 and 34.7 % error, GN 24.1, 24.2, 24.0, 24.2 and 24.1 %."
    )
    caveats = (
        "All runs see the same number of images, so a smaller batch has more steps: that helps small batches.",
        "Evaluation uses the running statistics of rank 0 for BN, as PyTorch's DistributedDataParallel does.",
        "The quick mode has only the MLP.",
    )
    collective = True
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(
            {"mlp": ("bn", "syncbn", "gn", "ln"), "resnet": ("in",)},
            {"mlp": (2, 8), "resnet": (8,)},
            {"mlp": 128, "resnet": 64},
            {"mlp": 1, "resnet": 1},
            (0.05,),
        ),
        "quick": Settings(
            {"mlp": ("none", "bn", "syncbn", "gn", "ln", "wn"), "resnet": ()},
            {"mlp": (2, 4, 16), "resnet": ()},
            {"mlp": 2048, "resnet": 0},
            {"mlp": 1, "resnet": 0},
            (0.025, 0.05, 0.1),
        ),
        "full": Settings(
            {
                "mlp": ("none", "bn", "syncbn", *GROUPED, "gn", "ln", "wn"),
                "resnet": ("none", "bn", "syncbn", *GROUPED, "gn", "ln", "in", "wn"),
            },
            {"mlp": (2, 4, 8, 16, 32), "resnet": (1, 2, 4, 8, 16, 32)},
            {"mlp": 9000, "resnet": 3072},
            {"mlp": 1, "resnet": 1},
        ),
    }

    def check(self, setup: Setup) -> None:
        """Raise ValueError if there is a single rank, on which BN and SyncBN are the same, or there are too many."""
        if setup.ranks == 1:
            raise ValueError("claim 'small-batch' compares local and synchronized statistics: use --ranks 2 or more")
        settings = self.settings(setup)
        for network, batches in settings.batches.items():
            if batches and batches[-1] * setup.ranks > settings.samples[network]:
                raise ValueError(
                    f"claim 'small-batch' trains with up to {batches[-1]} samples per rank: at most "
                    f"{settings.samples[network] // batches[-1]} ranks, got {setup.ranks}"
                )

    def variants(self, setup: Setup) -> list[Key]:
        """Return network, normalizer and batch size of all cells; a group of all ranks is SyncBN itself."""
        settings = self.settings(setup)
        return [
            {"network": network, "norm": norm, "batch": batch}
            for network, batches in settings.batches.items()
            for batch in batches
            for norm in settings.norms[network]
            if GROUPED.get(norm, 0) < setup.ranks and not (network == "mlp" and batch == 1)
        ]

    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""
        settings = self.settings(setup)
        network: Network = variant["network"]
        samples: int = settings.epochs[network] * settings.samples[network]
        steps = samples / (int(variant["batch"]) * setup.ranks)
        return 4e-3 * steps + 1e-5 * samples if network == "mlp" else 3e-2 * steps + 6e-4 * samples

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train on all ranks, and return the error. Collective."""
        settings, comm, network = self.settings(context.setup), context.comm, key["network"]
        data = images(context, key["seed"], POOL[network], settings.samples[network])
        model_comm, norm = self._groups(context, key["norm"])
        model = build_network(
            network,
            norm,
            key["seed"],
            image_shape=data.x.shape[1:],
            classes=context.setup.classes,
            comm=model_comm,
        )
        setting = {**key, "lr": key["lr"] * key["batch"] * comm.size / LR_BATCH}
        return trained(model, data, context, setting, batch=key["batch"], epochs=settings.epochs[network])

    def _groups(self, context: Context, norm: str) -> tuple[Communicator, str]:
        """Return the communicator of the synchronized layers, and their name in `NORMALIZERS`. Collective."""
        if norm not in GROUPED:
            return context.comm, norm
        if norm not in context.groups:
            context.groups[norm] = context.comm.split(GROUPED[norm])
        return context.groups[norm], "syncbn"

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the errors at the smallest batch."""
        settings = self.settings(setup)
        checks: list[Check] = []
        charts = []
        for network, batches in settings.batches.items():
            norms = [norm for norm in settings.norms[network] if GROUPED.get(norm, 0) < setup.ranks]
            if not norms:
                continue
            smallest: dict[str, Key] = {norm: {"network": network, "norm": norm, "batch": batches[0]} for norm in norms}
            if "bn" in norms:
                text = f"{network}: BN has a smaller error with {batches[-1]} per rank than with {batches[0]}."
                largest = {**smallest["bn"], "batch": batches[-1]}
                checks.append(compare_errors(setup, text, results, largest, smallest["bn"]))
            for norm in ("syncbn", "gn", "ln"):
                if norm in norms:
                    text = f"{network}: with {batches[0]} per rank, {_label(norm)} has a smaller error than BN."
                    checks.append(compare_errors(setup, text, results, smallest[norm], smallest["bn"]))
            series = lines(
                results,
                "error",
                {_label(norm): {"network": network, "norm": norm} for norm in norms},
                "batch",
                batches,
            )
            title = f"Test error by batch, {network}, {setup.ranks} ranks"
            charts.append(Chart(network, title, "batch per rank (samples)", "test error (%)", series, "log"))
        charts.append(_published_chart())
        return Conclusion(checks, {"cells": cells(results, "error", "diverged")}, charts)


def _label(norm: str) -> str:
    return norm if norm in GROUPED else NORMALIZERS[norm].label


def _published_chart() -> Chart:
    series = [
        Series(label, [Point(batch, value) for batch, value in zip(PUBLISHED_BATCHES, errors, strict=True)])
        for label, errors in PUBLISHED.items()
    ]
    return Chart(
        "published",
        "Wu & He 2018, ResNet-50 on ImageNet, 8 workers",
        "batch per worker (images)",
        "validation error (%)",
        series,
        "log",
        note="published means, without intervals (arXiv:1803.08494, figure 1)",
    )
