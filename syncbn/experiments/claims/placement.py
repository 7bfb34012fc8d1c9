"""The claim that batch normalization belongs before the activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.claim import Conclusion, Key, Numbers, Result
from syncbn.experiments.claims.models import mlp, normalizer
from syncbn.experiments.claims.searched import SearchedClaim
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import cells, compare_errors, values
from syncbn.experiments.claims.work import images, trained
from syncbn.nn import ReLU, Sigmoid
from syncbn.nn.activations import Activation

PLACES = ("before", "after", "none")
ACTIVATIONS: Mapping[str, Callable[[], Activation]] = {"ReLU": ReLU, "sigmoid": Sigmoid}


@dataclass(frozen=True)
class Settings:
    """Settings of the claim."""

    depth: int = 6
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    batch: int = 32
    epochs: int = 6


class Placement(SearchedClaim[Settings]):
    """Error with the layer before the activation, after it, and without it."""

    name = "placement"
    title = "Before the activation"
    statement = "Batch normalization belongs between the linear layer and the activation."
    question = "Is the error smaller with BN before the activation than after it, and than without BN?"
    method = (
        "A network of six hidden layers of 64 units is trained with BN before the activation, after it, and without "
        "BN, for ReLU and for the sigmoid (SGD, momentum 0.9, batches of 32). The learning rate is searched for each "
        "of the six networks."
    )
    rule = "For each activation two checks: BN before it has a smaller test error than no BN, and than BN after it."
    published = (
        "Ioffe & Szegedy 2015 place BN before the activation, because its input is closer to a normal distribution. "
        "Mishkin et al. 2016 find BN after the activation slightly better in CaffeNet."
    )
    caveats = ("Dense layers only; in residual networks the place relative to the shortcut matters too.",)
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(depth=2, rates=(0.01, 0.1), epochs=1),
        "quick": Settings(rates=(0.01, 0.03, 0.1), epochs=3),
        "full": Settings(),
    }

    def variants(self, setup: Setup) -> list[Key]:  # noqa: ARG002 (the same for all)
        """Return the keys of all places and activations."""
        return [{"activation": name, "place": place} for name in ACTIVATIONS for place in PLACES]

    def cost(self, setup: Setup, variant: Key) -> float:  # noqa: ARG002 (all cost the same)
        """Return the estimated seconds of a run."""
        return 0.25 * self.settings(setup).epochs

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Train, and return the error."""
        settings, data, place = self.settings(context.setup), images(context, key["seed"]), key["place"]
        model = mlp(
            data.pixels,
            context.setup.classes,
            key["seed"],
            None if place == "none" else normalizer("bn"),
            depth=settings.depth,
            placement="after" if place == "after" else "before",
            activation=ACTIVATIONS[key["activation"]],
        )
        return trained(model, data, context, key, batch=settings.batch, epochs=settings.epochs)

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the places."""
        errors = {
            (name, place): values(results, "error", activation=name, place=place)
            for name in ACTIVATIONS
            for place in PLACES
        }
        checks = [
            compare_errors(
                setup,
                f"With {name}, the error is smaller with BN before the activation than {text}.",
                results,
                {"activation": name, "place": "before"},
                {"activation": name, "place": other},
            )
            for name in ACTIVATIONS
            for other, text in (("none", "without BN"), ("after", "with BN after it"))
        ]
        series = [Series(place, [point(name, errors[name, place], 100) for name in ACTIVATIONS]) for place in PLACES]
        chart = Chart("error", "Test error by place of BN", "activation", "test error (%)", series, "category")
        return Conclusion(checks, {"cells": cells(results, "error", "diverged")}, [chart])
