"""The claim that batch normalization works because it reduces internal covariate shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import SEARCH_SEED, Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, compare_errors, compare_finished, summary, values
from syncbn.experiments.claims.work import images, trained
from syncbn.layers import BatchNorm, Module
from syncbn.nn import Sequential, softmax_cross_entropy
from syncbn.nn.activations import Activation
from syncbn.train import Progress
from syncbn.train.run import Labels
from syncbn.typing import Backward, Float64Array, FloatArray

VARIANTS = ("none", "BN", "noisy BN")


@dataclass(frozen=True)
class Settings:
    """Settings of the claim.

    Attributes
    ----------
    every : int
        Steps between observations.
    probe : int
        Training images on which distributions and gradients are observed.
    noise : float
        Largest mean of the noise, and largest standard deviation, in standard deviations of the units.
    distances : tuple of float
        Steps along the gradient, relative to it.
    """

    depth: int = 6
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    batch: int = 32
    epochs: int = 4
    every: int = 10
    probe: int = 256
    noise: float = 0.5
    distances: tuple[float, ...] = (0.01, 0.03, 0.1)


class Noise(Module):
    """Noise whose mean and spread differ between units and change at every step; none in evaluation.

    Parameters
    ----------
    size : float
        Largest mean and largest standard deviation.
    seed : list of int
    """

    def __init__(self, size: float, seed: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.rng: np.random.Generator = np.random.default_rng(seed)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return x with noise, and its backward, the identity."""
        if not self.training:
            return x, lambda dy: dy
        mean = self.rng.uniform(-self.size, self.size, x.shape[1])
        spread = self.rng.uniform(0, self.size, x.shape[1])
        noise = mean + spread * self.rng.standard_normal(x.shape)
        return x + noise.astype(x.dtype), lambda dy: dy


class CovariateShift(SearchedClaim[Settings]):
    """Drift of the inputs of layers during training, with BN, without, and with noise that raises it again."""

    name = "covariate-shift"
    title = "Internal covariate shift"
    statement = "Batch normalization reduces internal covariate shift, and training is better for that reason."
    question = (
        "How far do the inputs of layers drift during training, and does training suffer if noise makes them drift?"
    )
    method = (
        "A network of six hidden layers of 64 units is trained without BN, with BN, and with BN followed by noise "
        "whose mean and spread change at every step (Santurkar et al. 2018). Every ten steps the mean of each unit's "
        "activation over 256 fixed images is compared with the one before, in standard deviations of the layer; noise"
        " included. The gradient of the same images is compared before and after steps along it: ‖Δg‖ / ‖Δθ‖, the "
        "largest of three distances, shows how smooth the loss is. The learning rate is searched for each network."
    )
    rule = (
        "Two checks: the drift is smaller with BN than without; and training is better for that reason, which needs "
        "three comparisons: BN has a smaller test error than no BN, noise raises the drift above that without BN, and "
        "then the noisy network has a larger test error than the one without BN, as it must if the drift is the "
        "reason. The reason is contradicted if BN has the larger error, or if the noisy network drifts more and has "
        "the smaller error. Smoothness is reported without a check."
    )
    published = (
        "Santurkar et al. 2018: noise after BN raises the shift and the network still trains well; a smoother loss is "
        "their explanation."
    )
    caveats = (
        "Each network is observed at its own learning rate; a larger one moves the inputs further.",
        "Smoothness is observed without the noise, which would differ between two gradients.",
        "A run that diverged has no drift and no smoothness, and counts for neither side there.",
        "The rule was changed after a quick run had been seen: before, the reason did not need a smaller error of BN.",
        "The drift is that of means; Santurkar et al. also use changes of gradients as a definition.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(depth=2, rates=(0.03,), epochs=1, every=4, probe=64),
        "quick": Settings(rates=(0.01, 0.03, 0.1), epochs=3),
        "full": Settings(),
    }

    def variants(self, setup: Setup) -> list[Key]:  # noqa: ARG002 (the same for all)
        """Return the keys of all networks."""
        return [{"variant": name} for name in VARIANTS]

    def cost(self, setup: Setup, variant: Key) -> float:  # noqa: ARG002 (all cost the same)
        """Return the estimated seconds of a run."""
        return 0.5 * self.settings(setup).epochs

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error and what was observed."""
        settings, data, seed = self.settings(context.setup), images(context, key["seed"]), key["seed"]
        model = _model(key["variant"], settings, data.pixels, context.setup.classes, seed)
        observer = _Observer(model, data.x[: settings.probe], data.y[: settings.probe], settings)
        search = seed == SEARCH_SEED
        options: dict[str, Any] = {"batch": settings.batch, "epochs": settings.epochs}
        numbers = trained(model, data, context, key, on_step=None if search else observer, **options)
        if search:
            return numbers
        if numbers["diverged"]:
            return {**numbers, "shift": None, "layers": [None] * settings.depth, "roughness": None}
        return {
            **numbers,
            "shift": observer.shift(),
            "layers": observer.layers(),
            "roughness": observer.mean_roughness(),
        }

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare drift and error."""
        shift, errors, rough = (
            {name: values(results, number, variant=name) for name in VARIANTS}
            for number in ("shift", "error", "roughness")
        )
        none, bn, noisy = ({"variant": name} for name in VARIANTS)

        def less_drift(text: str, a: Key, b: Key) -> Check:
            return compare_finished(text, results, a, b, ("shift", "shift"), "standard deviations")

        raised = less_drift("Noise raises the drift above that without BN.", none, noisy)
        better = compare_errors(setup, "The error is smaller with BN than without.", results, bn, none)
        reason = _reason(
            raised,
            better,
            compare_errors(
                setup,
                (
                    "Training is better for that reason: BN has the smaller error, and loses it where noise raises "
                    "the drift."
                ),
                results,
                none,
                noisy,
            ),
        )
        checks = [less_drift("The inputs of layers drift less with BN.", bn, none), reason]
        depth = len(values(results, "layers", variant="none")[0])
        series = [
            Series(
                name,
                [point(at + 1, [seed[at] for seed in values(results, "layers", variant=name)]) for at in range(depth)],
            )
            for name in VARIANTS
        ]
        bars = [
            Series("test error (%)", [point(name, errors[name], 100) for name in VARIANTS]),
        ]
        roughness = [Series("‖Δg‖ / ‖Δθ‖", [point(name, rough[name]) for name in VARIANTS])]
        drift = "drift (standard deviations)"
        charts = [
            Chart(
                "shift",
                "Drift of the activations of each hidden layer",
                "hidden layer",
                drift,
                series,
                "category",
                "log",
            ),
            Chart("error", "Test error", "network", "test error (%)", bars, "category"),
            Chart(
                "smoothness", "Change of the gradient along it", "network", "‖Δg‖ / ‖Δθ‖", roughness, "category", "log"
            ),
        ]
        smoother = compare_finished("", results, bn, none, ("roughness", "roughness"), "(‖Δg‖ / ‖Δθ‖)")
        notes = [
            *(f"{check.text} {_outcome(check)}: {check.evidence}." for check in (raised, better)),
            "The loss along the gradient is "
            + {True: "smoother", False: "rougher", None: "neither smoother nor rougher beyond the interval"}[
                smoother.outcome
            ]
            + f" with BN than without: {smoother.evidence}.",
        ]
        numbers = {
            "shift": {name: summary(shift[name]) for name in VARIANTS},
            "roughness": {name: summary(rough[name]) for name in VARIANTS},
            "cells": cells(results, "error", "diverged"),
        }
        return Conclusion(checks, numbers, charts, notes)


def _reason(raised: Check, better: Check, worse: Check) -> Check:
    """Return the check of the reason: BN trains better, and no longer where noise raises the drift.

    If BN does not train better, there is nothing that the drift could be the reason of. If noise does not raise the
    drift, the experiment does not test the reason.
    """
    if better.outcome is False:
        return replace(worse, outcome=False, evidence=f"the error with BN is larger: {better.evidence}")
    if not better.outcome:
        return replace(worse, outcome=None, evidence=f"no smaller error with BN was seen: {better.evidence}")
    if not raised.outcome:
        return replace(worse, outcome=None, evidence=f"noise did not raise the drift enough: {raised.evidence}")
    return replace(worse, evidence=f"without BN against noisy BN, {worse.evidence}")


def _outcome(check: Check) -> str:
    return {True: "Confirmed", False: "Contradicted", None: "Neither"}[check.outcome]


def _model(variant: str, settings: Settings, pixels: int, classes: int, seed: int) -> Sequential:
    count = 0

    def norm(units: int) -> Module:
        nonlocal count
        count += 1
        layer = BatchNorm(units)
        return layer if variant == "BN" else Sequential(layer, Noise(settings.noise, [seed, count]))

    return mlp(pixels, classes, seed, None if variant == "none" else norm, depth=settings.depth)


class _Observer:
    """Observer of the activations and gradients of a model in training mode, on fixed images."""

    def __init__(self, model: Sequential, x: FloatArray, y: Labels, settings: Settings) -> None:
        self.model = model
        self.x = x
        self.y = y
        self.settings = settings
        self.steps = 0
        self.before: list[Float64Array] = []
        self.drifts: list[list[float]] = []
        self.roughness: list[float] = []

    def __call__(self, _: Progress) -> None:
        """Observe the model if it is time."""
        self.steps += 1
        if self.steps % self.settings.every:
            return
        state = self.model.state_dict()  # the running statistics change
        means, spreads = self._activations()
        if self.before and np.isfinite([*map(np.sum, means), *spreads]).all():
            drifts = [
                float(np.mean(np.abs(mean - before)) / max(spread, 1e-12))
                for mean, before, spread in zip(means, self.before, spreads, strict=True)
            ]
            self.drifts.append(drifts)
        self.before = means
        self.roughness.append(self._rough(state))
        self.model.load_state_dict(state)

    def shift(self) -> float:
        """Return the mean drift over all layers and observations."""
        return float(np.mean(self.drifts)) if self.drifts else 0.0

    def layers(self) -> list[float]:
        """Return the mean drift of each layer."""
        return [float(value) for value in np.mean(self.drifts, axis=0)] if self.drifts else [0.0] * self.settings.depth

    def mean_roughness(self) -> float:
        """Return the geometric mean of the roughness over all observations."""
        found = [value for value in self.roughness if np.isfinite(value) and value > 0]
        return float(np.exp(np.mean(np.log(found)))) if found else 0.0

    def _activations(self) -> tuple[list[Float64Array], list[float]]:
        """Return the means of the units after each activation, and the standard deviation of the layer."""
        means, spreads, x = [], [], self.x
        for layer in self.model:
            x, _ = layer(x)
            if isinstance(layer, Activation):
                means.append(x.mean(axis=0, dtype=np.float64))
                spreads.append(float(np.sqrt(x.var(axis=0, dtype=np.float64).mean())))
        return means, spreads

    def _gradient(self) -> list[FloatArray]:
        """Return the gradient of the loss on the images, without noise."""
        noises = [module for _, module in self.model.named_modules() if isinstance(module, Noise)]
        for noise in noises:
            noise.training = False
        self.model.zero_grad()
        logits, backward = self.model(self.x)
        backward(softmax_cross_entropy(logits, self.y)[1])
        found = [np.array(parameter.grad) for parameter in self.model.parameters()]
        self.model.zero_grad()
        for noise in noises:
            noise.training = True
        return found

    def _rough(self, state: Mapping[str, Any]) -> float:
        """Return the largest ‖Δg‖ / ‖Δθ‖ along the gradient."""
        start = self._gradient()
        length = _norm(start)
        worst = 0.0
        for distance in self.settings.distances:
            for parameter, gradient in zip(self.model.parameters(), start, strict=True):
                parameter.data -= distance * gradient
                parameter.version += 1
            change = _norm([a - b for a, b in zip(self._gradient(), start, strict=True)])
            worst = max(worst, change / (distance * length) if length else 0.0)
            self.model.load_state_dict(state)
        return worst


def _norm(arrays: Sequence[FloatArray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))
