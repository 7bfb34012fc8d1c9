"""The claim that batch normalization computes different functions in training and at inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.sources import Statistics, TrackingBatchNorm, averages, evaluated_with, recalibrated
from syncbn.experiments.claims.summaries import compare_errors, summary, values
from syncbn.experiments.claims.work import Images, counted, error, fit, images
from syncbn.experiments.config import LR_BATCH
from syncbn.layers import Module

MOMENTA: Mapping[str, float | None] = {"0.9": 0.1, "0.99": 0.01, "0.999": 0.001, "cumulative": None}
"""Moving averages by the weight of the old value, as Keras names the momentum, with that of the new one."""

SOURCES = (*MOMENTA, "recalibrated", "batch")

CHANGES = ("change_in_evaluation", "change_in_training")
"""Changes of the outputs of a sample if its companions change."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; rates are those of a global batch of 32."""

    batches: tuple[int, ...] = (2, 4, 8, 16, 32)
    rates: tuple[float, ...] = (0.0125, 0.025, 0.05, 0.1)
    samples: int = 8192
    recalibration: int = 1024


class Inference(SearchedClaim[Settings]):
    """Error by the source of the statistics for evaluation, by batch per rank."""

    name = "inference"
    title = "Training and inference differ"
    statement = (
        "At inference batch normalization uses moving averages, so that the output of a sample does not depend on its "
        "batch; where those differ from the statistics of batches, the error suffers."
    )
    question = "How does the error depend on the source of the statistics, and does an output depend on its batch?"
    method = (
        "An MLP with local BN is trained on all ranks. The same weights are evaluated with four moving averages, with"
        " statistics recalibrated on 1,024 training images after training (PreciseBN, batches as in training), and "
        "with the statistics of the test batches themselves, of the size of training. The learning rate is searched "
        "for each batch size. Then the companions of one sample are exchanged, and the change of its outputs is "
        "measured."
    )
    rule = (
        "Two checks at the smallest batch: recalibrated statistics have a smaller error than the default average "
        "(0.9); and batch statistics have a larger error than the average that was best on the images of the search. "
        "That in evaluation the outputs of a sample keep their bits when its companions change, and in training do "
        "not, follows from the definition: it is reported as a fact, which does not count."
    )
    published = (
        "Wu & Johnson 2021: population statistics from 1,000 to 10,000 samples beat the moving average. Singh & "
        "Shrivastava 2019 (EvalNorm): +6 points at batch 2 by the statistics of evaluation alone."
    )
    caveats = (
        "The rule was changed after a quick run had been seen: the fact counted as a check, and the best average was "
        "chosen on the runs that were compared.",
        "The statistics are those of rank 0.",
        "The momentum is named as in Keras, by the weight of the old value; in PyTorch and syncbn 0.9 is 0.1.",
    )
    collective = True
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(batches=(2, 8), rates=(0.05,), samples=128, recalibration=64),
        "quick": Settings(batches=(2, 8, 32), rates=(0.025, 0.05, 0.1), samples=2048),
        "full": Settings(),
    }

    def check(self, setup: Setup) -> None:
        """Raise ValueError if there are too many ranks for the images."""
        settings = self.settings(setup)
        limit = settings.samples // settings.batches[-1]
        if setup.ranks > limit:
            raise ValueError(f"claim 'inference' needs at most {limit} ranks, got {setup.ranks}")

    def variants(self, setup: Setup) -> list[Key]:
        """Return the keys of all batch sizes."""
        return [{"batch": batch} for batch in self.settings(setup).batches]

    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""
        return 4e-3 * self.settings(setup).samples / (int(variant["batch"]) * setup.ranks) + 0.2

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and evaluate with each source. Collective."""
        settings, comm, batch = self.settings(context.setup), context.comm, key["batch"]
        data = images(context, key["seed"], samples=settings.samples)
        model = mlp(
            data.pixels,
            context.setup.classes,
            key["seed"],
            lambda units: TrackingBatchNorm(units, tuple(MOMENTA.values())),
        )
        diverged = fit(
            model,
            data.x,
            data.y,
            comm,
            lr=key["lr"] * batch * comm.size / LR_BATCH,
            batch=batch,
            epochs=1,
            seed=key["seed"],
        )
        sources: dict[str, Statistics | None] = {name: averages(model, at) for at, name in enumerate(MOMENTA)}
        sources["recalibrated"] = recalibrated(model, data.x[: settings.recalibration], batch)
        sources["batch"] = None
        errors = {
            name: counted(_error(model, statistics, data, batch), context, diverged)
            for name, statistics in sources.items()
        }
        changes = dict.fromkeys(CHANGES) if diverged else _dependence(model, data, batch)
        return {"error": min(errors.values()), "errors": errors, "diverged": diverged, **changes}

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:
        """Compare the sources."""
        batches = self.settings(setup).batches
        smallest: Key = {"batch": batches[0]}
        errors = {
            (name, batch): values(results, f"errors/{name}", batch=batch) for name in SOURCES for batch in batches
        }
        complete = [result.numbers for result in results if not result.numbers["diverged"]]
        evaluation, training = ([numbers[change] for numbers in complete] for change in CHANGES)
        best = self._best_average(setup, found, smallest)

        def less_at_smallest(text: str, a: str, b: str) -> Check:
            return compare_errors(
                setup,
                f"With {batches[0]} per rank, {text}",
                results,
                smallest,
                smallest,
                (f"errors/{a}", f"errors/{b}"),
            )

        checks = [
            less_at_smallest("recalibration has a smaller error than the moving average (0.9).", "recalibrated", "0.9"),
            less_at_smallest(
                f"the average that the search found best ({best}) has a smaller error than batch statistics.",
                best,
                "batch",
            ),
            Check(
                "In evaluation the outputs of a sample do not depend on its batch, in training they do.",
                (not any(evaluation) and min(training) > 0) if complete else None,
                f"change of the outputs in evaluation: {'not 0' if any(evaluation) else 'exactly 0'}; "
                f"in training at least {min(training):.2g} times their norm"
                if complete
                else "nothing was compared: all runs diverged",
                fact=True,
            ),
        ]
        series = [
            Series(_label(name), [point(batch, errors[name, batch], 100) for batch in batches]) for name in SOURCES
        ]
        chart = Chart(
            "error",
            "Test error by source of the statistics",
            "batch per rank (samples)",
            "test error (%)",
            series,
            "log",
        )
        numbers = {
            "errors": [{"source": name, "batch": batch, **summary(found)} for (name, batch), found in errors.items()],
            "change_in_training": summary(training) if training else None,
            "best_average": best,
        }
        return Conclusion(checks, numbers, [chart])

    def _best_average(self, setup: Setup, found: Sequence[Result], variant: Key) -> str:
        """Return the momentum with the smallest error on the images of the search, at the chosen learning rate."""
        (run,) = (result for result in found if result.matches(**variant, lr=self.rate(setup, found, variant)))
        return min(MOMENTA, key=run.numbers["errors"].__getitem__)


def _label(name: str) -> str:
    return f"average, {name}" if name in MOMENTA else {"recalibrated": "recalibrated", "batch": "test batch"}[name]


def _error(model: Module, statistics: Statistics | None, data: Images, batch: int) -> float:
    """Return the error with these statistics; with those of batches, an incomplete last one is left out."""
    x, y = data.x_held_out, data.y_held_out
    whole = len(x) // batch * batch if statistics is None else len(x)
    with evaluated_with(model, statistics):
        return error(model, x[:whole], y[:whole], batch if statistics is None else 256)


def _dependence(model: Module, data: Images, batch: int) -> Numbers:
    """Return by how much the outputs of one sample change, relative to their norm, if its companions change."""
    x = data.x_held_out
    first, second = x[:batch], np.concatenate([x[:1], x[batch : 2 * batch - 1]])
    changes = {}
    for name, statistics in zip(CHANGES, (averages(model, 0), None), strict=True):
        with evaluated_with(model, statistics), model.evaluating():
            (a, _), (b, _) = model(first), model(second)
        changes[name] = float(np.linalg.norm(a[0] - b[0]) / np.linalg.norm(a[0]))
    return changes
