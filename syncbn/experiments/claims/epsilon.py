"""The claim that ε prevents a division by zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Claim, Conclusion, Key, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, compare_errors, values
from syncbn.experiments.claims.work import finite, images, trained
from syncbn.layers import BatchNorm
from syncbn.moments import Moments
from syncbn.nn import Flatten, Sequential
from syncbn.typing import Backward, FloatArray

EPSILONS = (0.0, 1e-12, 1e-8, 1e-5, 1e-3, 1e-1)
DEFAULT = 1e-5
STDS = (1.0, 1e-2, 1e-4, 1e-6, 1e-8, 0.0)
"""Standard deviations of the channels of the probe; 0 is a constant channel."""


IMPLEMENTATIONS = ("formula", "syncbn")


class FormulaBatchNorm(BatchNorm):
    """Batch normalization by the textbook's formula in NumPy, which divides by √(var + ε) whatever that is."""

    def forward(self, x: FloatArray, *_: Any, **__: Any) -> tuple[FloatArray, Backward]:  # type: ignore[override]  # no options
        """Return y and its backward."""
        if not self.training:
            return super().forward(x)
        count, weight, bias = len(x), self.weight, self.bias
        if weight is None or bias is None:
            raise ValueError("FormulaBatchNorm needs weight and bias")
        mean, var = x.mean(axis=0), x.var(axis=0)
        std = np.sqrt(var + np.float32(self.eps or 0.0))
        normalized = (x - mean) / std
        self._observe([Moments(count, mean.astype(np.float64), var.astype(np.float64))])

        def backward(dy: FloatArray) -> FloatArray:
            weight.add_grad((dy * normalized).sum(axis=0))
            bias.add_grad(dy.sum(axis=0))
            inner = dy.mean(axis=0) + normalized * (dy * normalized).mean(axis=0)
            dx: FloatArray = weight.data / std * (dy - inner)
            return dx

        return normalized * weight.data + bias.data, backward


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
        "random gradients, by syncbn and by the textbook's formula in NumPy. And a network whose first layer is BN of "
        "the pixels (black is 0), of which those at the border are often black in a whole batch, is trained with each "
        "ε in all layers (two hidden layers, SGD, momentum 0.9, batches of 32), again by syncbn and by the formula."
    )
    rule = (
        "Two checks: by the formula, training on the images has a smaller error with the default 1e-5 than with ε = "
        "0, as it must if channels with equal values occur in training, so it shows whether they do; and by syncbn, "
        "the error with the default is at most 1 point larger than with ε = 0.1. What ε does in one layer follows "
        "from the formula, so it is reported as two facts, which do not count: with ε = 0 the outputs of a constant "
        "channel are not finite; with ε > 0 all is finite, and the norm of the gradient grows at most by 1/√ε."
    )
    published = "Ioffe & Szegedy 2015 add ε for numerical stability; PyTorch's default is 1e-5, that of Keras 1e-3."
    caveats = (
        "The learning rate is the same for all ε.",
        "Black is 0, as in most pipelines. If the equal values are another number, the sum of the textbook's mean may "
        "be rounded; then the variance is that of rounding errors instead of 0, and nothing is divided by zero.",
        "The rule was changed after a quick run had been seen: the facts counted as checks, and training with ε = 0 "
        "was that of syncbn, which does not divide by zero.",
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
        cost = {"layer": 0.01, **dict.fromkeys(IMPLEMENTATIONS, 0.2 * self.settings(setup).epochs)}
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
        settings, data, eps = self.settings(context.setup), images(context, key["seed"]), key["eps"]
        black = data.x.min()
        data = replace(data, x=data.x - black, x_held_out=data.x_held_out - black)
        batches = data.x[: len(data.x) // settings.batch * settings.batch].reshape(-1, settings.batch, data.pixels)
        layer = FormulaBatchNorm if key["part"] == "formula" else BatchNorm
        network = mlp(data.pixels, context.setup.classes, key["seed"], lambda units: layer(units, eps))
        model = Sequential(Flatten(), layer(data.pixels, eps), *network)
        setting: Key = {**key, "lr": settings.lr}
        numbers = trained(model, data, context, setting, batch=settings.batch, epochs=settings.epochs)
        return {**numbers, "constant": float(np.mean(np.ptp(batches, axis=1) == 0))}

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
        training = [result for result in results if result.key["part"] != "layer"]
        errors = {
            (part, eps): values(results, "error", part=part, eps=eps) for part in IMPLEMENTATIONS for eps in EPSILONS
        }

        def setting(part: str, eps: float) -> Key:
            return {"part": part, "eps": eps}

        checks = [
            compare_errors(
                setup,
                "By the formula, training with the default ε has a smaller error than with ε = 0.",
                results,
                setting("formula", DEFAULT),
                setting("formula", 0.0),
            ),
            compare_errors(
                setup,
                "The default ε is no worse than ε = 0.1.",
                results,
                setting("syncbn", DEFAULT),
                setting("syncbn", 0.1),
                margin=0.01,
            ),
            Check(
                "With ε = 0, the formula gives outputs that are not finite in a constant channel.",
                broken == len(setup.seeds),
                f"not finite for {broken} of {len(setup.seeds)} seeds",
                fact=True,
            ),
            Check(
                "With every ε > 0, all is finite, and the gradient grows at most by 1/√ε.",
                safe,
                f"ε from {EPSILONS[1]:g} to {EPSILONS[-1]:g}, channels with standard deviations from 0 to 1",
                fact=True,
            ),
        ]
        constant = 100 * np.mean(values(results, "constant", part="formula"))
        own = compare_errors(setup, "", results, setting("syncbn", DEFAULT), setting("syncbn", 0.0))
        notes = [
            f"In a batch, {constant:.3g} % of the pixels have equal values: without them, nothing would be divided by "
            "zero.",
            f"By syncbn, the default ε against ε = 0, which is defined there: {own.evidence}.",
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
        training_lines = [
            Series(part, [point(_text(eps), errors[part, eps], 100) for eps in EPSILONS]) for part in IMPLEMENTATIONS
        ]
        charts = [
            Chart("gradient", "Gradient through one layer", "ε", "‖dx‖ / ‖dy‖", gains, "category", "log"),
            Chart("error", "Training with BN of the pixels", "ε", "test error (%)", training_lines, "category"),
        ]
        numbers = {
            "layer": {_text(eps): probes[eps] for eps in EPSILONS},
            "cells": cells(training, "error", "diverged"),
        }
        return Conclusion(checks, numbers, charts, notes)


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
