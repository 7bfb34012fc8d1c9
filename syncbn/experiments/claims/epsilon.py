"""The claim that ε prevents a division by zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check, less
from syncbn.experiments.claims.claim import Claim, Conclusion, Key, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.work import cells, finite, images, trained, values
from syncbn.layers import BatchNorm
from syncbn.nn import Flatten, Sequential

EPSILONS = (0.0, 1e-12, 1e-8, 1e-5, 1e-3, 1e-1)
DEFAULT = 1e-5
STDS = (1.0, 1e-2, 1e-4, 1e-6, 1e-8, 0.0)
"""Standard deviations of the channels of the probe; 0 is a constant channel."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim."""

    lr: float = 0.03
    batch: int = 32
    epochs: int = 4


class Epsilon(Claim[Settings]):
    """Outputs, gradients and training with constant and nearly constant channels, by ε."""

    name = "epsilon"
    title = "ε and constant channels"
    statement = "The small constant ε prevents a division by zero in a channel whose values are all equal."
    question = "What do outputs, gradients and training do with constant and nearly constant channels, by ε?"
    method = (
        "One layer normalizes 32 values of channels with standard deviations from 0 to 1, and its backward receives "
        "random gradients, by syncbn and by the textbook's formula in NumPy. And a network whose first layer is BN of"
        " the pixels, of which those at the border are often equal in a whole batch, is trained with each ε in all "
        "layers (two hidden layers, SGD, momentum 0.9, batches of 32)."
    )
    rule = (
        "Four checks: with ε = 0 the formula gives outputs that are not finite in a constant channel; with every ε > "
        "0 all outputs and gradients are finite, and the norm of the gradient grows at most by 1/√ε; training on the "
        "images has a smaller error with the default 1e-5 than with ε = 0; and with the default it is at most 1 point"
        " larger than with ε = 0.1."
    )
    published = "Ioffe & Szegedy 2015 add ε for numerical stability; PyTorch's default is 1e-5, that of Keras 1e-3."
    caveats = (
        "The learning rate is the same for all ε.",
        "syncbn computes the variance of a constant channel as exactly 0, and defines the output as the bias and the "
        "gradient as 0 if ε is 0 too; an implementation by the formula divides by zero, and one with E[x²] − E[x]² "
        "divides by rounding errors.",
    )
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(epochs=1),
        "quick": Settings(),
        "full": Settings(epochs=8),
    }

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (there is no search)
        """Return the probe of a layer and one training run for each ε and seed."""
        cost = {"layer": 0.01, "training": 0.2 * self.settings(setup).epochs}
        return [
            Piece({"part": part, "eps": eps, "seed": seed}, cost[part])
            for seed in setup.seeds
            for part in cost
            for eps in EPSILONS
        ]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Probe a layer, or train."""
        if key["part"] == "layer":
            return {"channels": [_probe(std, key["eps"], key["seed"]) for std in STDS]}
        settings, data, eps = self.settings(context.setup), images(context), key["eps"]
        network = mlp(data.pixels, context.setup.classes, key["seed"], lambda units: BatchNorm(units, eps))
        model = Sequential(Flatten(), BatchNorm(data.pixels, eps), *network)
        setting: Key = {**key, "lr": settings.lr}
        return trained(model, data, context, setting, batch=settings.batch, epochs=settings.epochs)

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Check finiteness and compare errors."""
        probes = {eps: values(results, "channels", part="layer", eps=eps) for eps in EPSILONS}
        broken = sum(not seed[-1]["formula_finite"] for seed in probes[0.0])
        channels = {eps: [channel for seed in probes[eps] for channel in seed] for eps in EPSILONS}
        safe = all(
            channel["formula_finite"] and channel["finite"] and channel["gain"] <= eps**-0.5 * (1 + 1e-9)
            for eps in EPSILONS[1:]
            for channel in channels[eps]
        )
        training = [result for result in results if result.key["part"] == "training"]
        errors = {eps: values(training, "error", eps=eps) for eps in EPSILONS}
        checks = [
            Check(
                "With ε = 0, the formula gives outputs that are not finite in a constant channel.",
                broken == len(setup.seeds),
                f"not finite for {broken} of {len(setup.seeds)} seeds",
            ),
            Check(
                "With every ε > 0, all is finite, and the gradient grows at most by 1/√ε.",
                safe,
                f"ε from {EPSILONS[1]:g} to {EPSILONS[-1]:g}, channels with standard deviations from 0 to 1",
            ),
            less("Training with the default ε has a smaller error than with ε = 0.", errors[DEFAULT], errors[0.0]),
            less("The default ε is no worse than ε = 0.1.", errors[DEFAULT], errors[0.1], margin=0.01),
        ]
        gains = [
            Series(
                "constant" if std == 0 else f"std {std:g}",
                [
                    point(_text(eps), gain)
                    for eps in EPSILONS
                    if min(gain := [seed[number]["gain"] for seed in probes[eps]]) > 0  # 0 has no place on this axis
                ],
            )
            for number, std in enumerate(STDS)
        ]
        points = [point(_text(eps), errors[eps], 100) for eps in EPSILONS]
        charts = [
            Chart("gradient", "Gradient through one layer", "ε", "‖dx‖ / ‖dy‖", gains, "category", "log"),
            Chart("error", "Training with BN of the pixels", "ε", "test error (%)", [Series("BN", points)], "category"),
        ]
        numbers = {
            "layer": {_text(eps): probes[eps] for eps in EPSILONS},
            "cells": cells(training, "error", "diverged"),
        }
        return Conclusion(checks, numbers, charts)


def _probe(std: float, eps: float, seed: int) -> Numbers:
    """Normalize a channel: return whether outputs and gradients are finite, and by how much the gradient grows."""
    rng = np.random.default_rng(seed)
    x = std * rng.standard_normal((32, 1)) + (std == 0)
    dy = rng.standard_normal(x.shape)
    y, backward = BatchNorm(1, eps, dtype=np.float64)(x)
    dx = backward(dy)
    formula = (x - x.mean()) / np.sqrt(x.var() + eps)
    return {
        "std": std,
        "formula_finite": bool(np.isfinite(formula).all()),
        "finite": bool(np.isfinite(y).all() and np.isfinite(dx).all()),
        "output_std": finite(y.std()),
        "gain": finite(np.linalg.norm(dx) / np.linalg.norm(dy)),
    }


def _text(eps: float) -> str:
    return f"{eps:g}" if eps == 0 or not math.log10(eps).is_integer() else f"1e{math.log10(eps):.0f}"
