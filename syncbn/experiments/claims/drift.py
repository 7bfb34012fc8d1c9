"""The claim that batch normalization suits inputs whose distribution changes over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import batch_norms, mlp, normalizer
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import SAMPLES, SEARCH_SEED, Context, Effort, Setup
from syncbn.experiments.claims.summaries import compare_errors, one_image, summary, values
from syncbn.experiments.claims.work import counted, fit, fit_batches, images, tested
from syncbn.layers import Module
from syncbn.train import predict
from syncbn.train.evaluation import count_wrong
from syncbn.train.run import Labels
from syncbn.typing import FloatArray

NORMS = ("none", "bn")
PARTS = ("test", "online")
SECTIONS = 8
"""Number of equal sections of a stream for which errors are reported."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim; at the end of a stream, x becomes (1 + contrast)·x + brightness."""

    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    batch: int = 32
    epochs: int = 4
    contrast: float = 1.0
    brightness: float = 2.0


class Drift(SearchedClaim[Settings]):
    """Errors on a stream whose contrast and brightness drift, with moving averages that are frozen or go on."""

    name = "drift"
    title = "Inputs that drift"
    statement = "Batch normalization suits inputs whose distribution changes over time, as in online learning."
    question = "Does BN lower the error on a stream of images whose contrast and brightness drift?"
    method = (
        "At test: an MLP is trained on unchanged images; then the test images arrive in batches of 32 whose contrast "
        "and brightness grow steadily to twice the contrast and two standard deviations more. BN is evaluated with "
        "frozen moving averages, and with averages (momentum 0.9) that go on without labels. Online: a new network is"
        " trained in one pass over a stream that drifts in the same way, and each batch is classified before it is "
        "trained on. The learning rate is searched for each network and part, on images of the search."
    )
    rule = (
        "Three checks on the second half of the streams: at test, BN with adapted averages has a smaller error than "
        "with frozen ones; and than the network without BN; online, BN has a smaller error than the network without "
        "it."
    )
    published = "Li et al. 2016 (AdaBN) replace the statistics of BN by those of the target domain."
    caveats = (
        "A drift of contrast and brightness is an affine change of the inputs, which statistics can undo.",
        "The share of classes does not drift.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(rates=(0.01, 0.1), batch=8, epochs=1),
        "quick": Settings(rates=(0.01, 0.03, 0.1)),
        "full": Settings(),
    }

    def variants(self, setup: Setup) -> list[Key]:  # noqa: ARG002 (the same for all)
        """Return the keys of all networks and parts."""
        return [{"part": part, "norm": norm} for part in PARTS for norm in NORMS]

    def cost(self, setup: Setup, variant: Key) -> float:  # noqa: ARG002 (all cost the same)
        """Return the estimated seconds of a run."""
        return 0.15 * self.settings(setup).epochs

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train and classify the stream."""
        settings, seed = self.settings(context.setup), key["seed"]
        data = images(context, seed)
        model = mlp(data.pixels, context.setup.classes, seed, normalizer(key["norm"]))
        search = seed == SEARCH_SEED
        if key["part"] == "online":
            x, y = (data.x_held_out, data.y_held_out) if search else (data.x, data.y)
            sections, diverged = _online(model, settings, x, y, key["lr"], seed)
            streams = {"stream": sections}
        else:
            options = {"lr": key["lr"], "batch": settings.batch, "epochs": settings.epochs, "seed": seed}
            diverged = fit(model, data.x, data.y, context.comm, **options)
            if search:  # without drift, which nobody can foresee
                return tested(model, data, context, diverged)
            streams = {
                name: _classify(model, settings, data.x_held_out, data.y_held_out, seed, adapt=name == "adapted")
                for name in ("stream", "adapted")
            }
        streams = {name: [counted(error, context, diverged) for error in errors] for name, errors in streams.items()}
        late = {f"late_{name}": float(np.mean(errors[SECTIONS // 2 :])) for name, errors in streams.items()}
        return {"error": float(np.mean(streams["stream"])), **streams, **late, "diverged": diverged}

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the second halves of the streams."""
        streams = {
            "no BN": values(results, "stream", part="test", norm="none"),
            "BN, frozen": values(results, "stream", part="test", norm="bn"),
            "BN, adapted": values(results, "adapted", part="test", norm="bn"),
            "online, no BN": values(results, "stream", part="online", norm="none"),
            "online, BN": values(results, "stream", part="online", norm="bn"),
        }
        bn, none, online_bn, online_none = ({"part": part, "norm": norm} for part in PARTS for norm in ("bn", "none"))
        adapted, frozen = "late_adapted", "late_stream"
        half = {"grid": 2 * one_image(setup)}
        online_half = {"grid": 2 / SAMPLES[setup.effort][0]}
        checks = [
            compare_errors(
                setup,
                "At test, adapted averages have a smaller error than frozen ones.",
                results,
                bn,
                bn,
                (adapted, frozen),
                **half,
            ),
            compare_errors(
                setup,
                "At test, BN with adapted averages has a smaller error than no BN.",
                results,
                bn,
                none,
                (adapted, frozen),
                **half,
            ),
            compare_errors(
                setup,
                "Online, BN has a smaller error than no BN.",
                results,
                online_bn,
                online_none,
                (frozen, frozen),
                **online_half,
            ),
        ]
        late = {name: [float(np.mean(seed[SECTIONS // 2 :])) for seed in stream] for name, stream in streams.items()}
        axis = [100 * (section + 0.5) / SECTIONS for section in range(SECTIONS)]
        charts = []
        for part, names in (("test", list(streams)[:3]), ("online", list(streams)[3:])):
            series = [
                Series(name, [point(x, [seed[at] for seed in streams[name]], 100) for at, x in enumerate(axis)])
                for name in names
            ]
            title = {"test": "Drift at test", "online": "Drift during training"}[part]
            charts.append(Chart(part, title, "stream (%)", "error (%)", series))
        return Conclusion(checks, {"second_half": {name: summary(found) for name, found in late.items()}}, charts)


def _drifted(settings: Settings, x: FloatArray, seed: int) -> tuple[FloatArray, np.ndarray[Any, Any]]:
    """Return the images of a stream and their indices: a random order, with a steady drift."""
    order = np.random.default_rng([seed, 2]).permutation(len(x))
    time = np.linspace(0, 1, len(x), dtype=np.float32).reshape(-1, *[1] * (x.ndim - 1))
    return (1 + np.float32(settings.contrast) * time) * x[order] + np.float32(settings.brightness) * time, order


def _classify(model: Module, settings: Settings, x: FloatArray, y: Labels, seed: int, *, adapt: bool) -> list[float]:
    """Return the errors on the sections of a stream, with moving averages that adapt to each batch or do not."""
    stream, order = _drifted(settings, x, seed)
    labels = y[order]
    state = model.state_dict()
    wrong = []
    for start in range(0, len(stream) - settings.batch + 1, settings.batch):
        part = slice(start, start + settings.batch)
        if adapt and any(True for _ in batch_norms(model)):
            model(stream[part])  # in training mode: it updates the averages, and nothing else
        wrong.append(count_wrong(predict(model, stream[part]), labels[part]) / settings.batch)
    model.load_state_dict(state)
    return _sections(wrong)


def _online(
    model: Module, settings: Settings, x: FloatArray, y: Labels, lr: float, seed: int
) -> tuple[list[float], bool]:
    """Return the errors on the sections of a stream, each batch classified before the step on it, and divergence."""
    stream, order = _drifted(settings, x, seed)
    labels = y[order]
    wrong: list[float] = []

    def test(batch: np.ndarray[Any, Any]) -> None:
        wrong.append(count_wrong(predict(model, stream[batch]), labels[batch]) / len(batch))

    starts = range(0, len(stream) - settings.batch + 1, settings.batch)
    batches = [np.arange(start, start + settings.batch) for start in starts]
    diverged = fit_batches(model, stream, labels, batches, lr, test)
    return [math.nan] * SECTIONS if diverged else _sections(wrong), diverged


def _sections(wrong: Sequence[float]) -> list[float]:
    return [float(np.mean(part)) for part in np.array_split(np.array(wrong), SECTIONS)]
