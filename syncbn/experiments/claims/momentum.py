"""The claim that a momentum of 0.99 often works well for the moving averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from syncbn.comm import SERIAL
from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import less
from syncbn.experiments.claims.claim import Claim, Conclusion, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.sources import (
    Statistics,
    TrackingBatchNorm,
    averages,
    evaluated_with,
    recalibrated,
)
from syncbn.experiments.claims.summaries import one_image, summary, values
from syncbn.experiments.claims.work import Images, counted, error, fit, images
from syncbn.layers import Module
from syncbn.monitor import Monitor, read_records
from syncbn.monitor.records import Record
from syncbn.train import Progress

MOMENTA = (0.5, 0.9, 0.99, 0.999)
"""Weights of the old value."""

NAMES = [f"{momentum:g}" for momentum in MOMENTA]

LEVEL = 0.005
"""Errors that differ by less than this are level."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; ``lengths`` are steps after which the moving averages are evaluated."""

    batches: tuple[int, ...] = (8, 32)
    lengths: tuple[int, ...] = (50, 100, 200, 400, 800)
    lr: float = 0.03
    recalibration: int = 1024


class Momentum(Claim[Settings]):
    """Error and distance of the moving averages from the population's statistics, by momentum and step."""

    name = "momentum"
    title = "Momentum 0.99"
    statement = "A momentum of 0.99 of the moving averages often works well."
    question = "Which momentum gives evaluation the statistics that the present weights need, and after how many steps?"
    method = (
        "An MLP is trained with batches of 8 and of 32, and the same run keeps moving averages with four momenta. "
        "After 50 to 800 steps the network is evaluated with each of them and with statistics recalibrated on 1,024 "
        "training images. The distance of an average is the norm of its difference to the recalibrated mean, in "
        "standard deviations per unit, over all layers. `syncbn.monitor` records the same training as a user would "
        "watch it, which the tutorial recommends: it shows how far the average (0.9) is from the mean of the last "
        "batch."
    )
    rule = (
        "For each batch size two checks: after the last step, the error with 0.99 is at most 0.5 points above the one"
        " with recalibrated statistics; and so it is at the first evaluation, early in training."
    )
    published = (
        "Ioffe & Szegedy 2015 use moving averages; Keras's default momentum is 0.99, PyTorch's 0.9 (0.1 of the new "
        "value). Wu & Johnson 2021 trace noisy evaluation during training to them."
    )
    caveats = (
        "The averages start at mean 0 and variance 1, whose share with 0.99 is 0.99ⁿ after n steps (37 % at 100).",
        "One learning rate, the same for all momenta, since they share each run.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(batches=(8, 32), lengths=(4, 8), recalibration=128),
        "quick": Settings(),
        "full": Settings(lengths=(50, 100, 200, 400, 800, 1600)),
    }

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (there is no search)
        """Return one training run for each batch size and seed."""
        settings = self.settings(setup)
        return [
            Piece({"batch": batch, "seed": seed}, 2e-3 * settings.lengths[-1])
            for seed in setup.seeds
            for batch in settings.batches
        ]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and evaluate the averages at each length."""
        settings, data, batch = self.settings(context.setup), images(context, key["seed"]), key["batch"]
        model = mlp(
            data.pixels,
            context.setup.classes,
            key["seed"],
            lambda units: TrackingBatchNorm(units, [1 - momentum for momentum in MOMENTA]),
        )
        steps = 0
        found: list[Numbers] = []

        def watch(_: Progress) -> None:
            nonlocal steps
            steps += 1
            if steps in settings.lengths:
                found.append(_observe(model, data, settings, batch))

        epochs = -(-settings.lengths[-1] // (len(data.x) // batch))
        options = {"lr": settings.lr, "batch": batch, "epochs": epochs, "seed": key["seed"]}
        with TemporaryDirectory() as directory:
            with Monitor(model, Path(directory) / "records.jsonl", SERIAL, every=settings.lengths[0]) as monitor:
                diverged = fit(model, data.x, data.y, context.comm, on_step=watch, **options)
            monitored = _monitored(read_records(monitor.path))
        if diverged:  # at any step, as in all claims
            guess = counted(math.nan, context, diverged)
            lost = {"errors": dict.fromkeys([*NAMES, "recalibrated"], guess), "distances": dict.fromkeys(NAMES)}
            found = [lost] * len(settings.lengths)
        return {"lengths": found, "monitored": monitored, "diverged": diverged}

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the momenta with recalibration."""
        settings = self.settings(setup)
        lengths = settings.lengths

        def over_seeds(batch: int, at: int, number: str, name: str) -> list[Any]:
            return [seed[at][number][name] for seed in values(results, "lengths", batch=batch)]

        lost = {batch: values(results, "diverged", batch=batch) for batch in settings.batches}
        checks = [
            less(
                f"With batches of {batch}, after {lengths[at]} steps the error with 0.99 is level with recalibration.",
                over_seeds(batch, at, "errors", "0.99"),
                over_seeds(batch, at, "errors", "recalibrated"),
                margin=LEVEL,
                grid=one_image(setup),
                lost=(lost[batch], lost[batch]),
            )
            for batch in settings.batches
            for at in (-1, 0)
        ]
        charts = []
        for batch in settings.batches:
            for number, title, unit, factor, more in (
                ("errors", "Test error", "test error (%)", 100.0, ["recalibrated"]),
                ("distances", "Distance of the moving mean", "distance (standard deviations)", 1.0, []),
            ):
                series = [
                    Series(
                        name,
                        [point(n, over_seeds(batch, at, number, name), factor) for at, n in enumerate(lengths)],
                    )
                    for name in NAMES + more
                ]
                name, title = f"{number}-{batch}", f"{title} by momentum, batches of {batch}"
                charts.append(
                    Chart(name, title, "training (steps)", unit, series, "log", "log" if not more else "linear")
                )
        charts.append(_monitor_chart(results, settings))
        numbers = {
            number: [
                {"batch": batch, "steps": n, "momentum": name, **summary(over_seeds(batch, at, number, name))}
                for batch in settings.batches
                for at, n in enumerate(lengths)
                for name in [*NAMES, *(["recalibrated"] if number == "errors" else [])]
            ]
            for number in ("errors", "distances")
        }
        return Conclusion(checks, numbers, charts)


def _observe(model: Module, data: Images, settings: Settings, batch: int) -> Numbers:
    """Return the errors with each average and with recalibrated statistics, and the distances of the averages."""
    target = recalibrated(model, data.x[: settings.recalibration], batch)
    sources = {name: averages(model, at) for at, name in enumerate(NAMES)}
    errors = {}
    for name, statistics in {**sources, "recalibrated": target}.items():
        with evaluated_with(model, statistics):
            errors[name] = error(model, data.x_held_out, data.y_held_out)
    return {"errors": errors, "distances": {name: _distance(found, target) for name, found in sources.items()}}


def _monitored(records: Sequence[Record]) -> Numbers:
    """Return what the monitor has recorded of the batch normalization layers: the mean over them, by step."""
    found: dict[int, list[float | None]] = {}
    for record in records:
        if "mean_distance" in record:
            found.setdefault(record["step"], []).append(record["mean_distance"])
    means = [None if None in of_layers else float(np.mean(of_layers)) for of_layers in found.values()]  # type: ignore[arg-type]
    return {"steps": [step + 1 for step in found], "mean_distance": means}


def _monitor_chart(results: Sequence[Result], settings: Settings) -> Chart:
    series = []
    for batch in settings.batches:
        monitored = values(results, "monitored", batch=batch)
        steps = max((found["steps"] for found in monitored), key=len)
        by_step = [dict(zip(found["steps"], found["mean_distance"], strict=True)) for found in monitored]
        points = [point(step, [found.get(step) for found in by_step], 1.0) for step in steps]
        series.append(Series(f"batches of {batch}", points))
    return Chart(
        "monitor",
        "What syncbn.monitor records: batch against average (0.9)",
        "training (steps)",
        "distance (standard deviations)",
        series,
        note="root mean square over the units of (batch mean − running mean) / σ, mean over the layers",
    )


def _distance(found: Statistics, target: Statistics) -> float:
    """Return √ of the mean over units of (difference of the means)² / variance."""
    squares = [
        (mean - target_mean) ** 2 / (target_var + 1e-5)
        for (mean, _), (target_mean, target_var) in zip(found, target, strict=True)
    ]
    return float(np.sqrt(np.mean(np.concatenate(squares))))
