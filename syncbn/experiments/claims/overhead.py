"""The claim that batch normalization costs little."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn.comm import Communicator
from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check, less
from syncbn.experiments.claims.claim import Claim, Conclusion, Numbers, Piece, Result
from syncbn.experiments.claims.setup import SAMPLES, Context, Effort, Setup
from syncbn.experiments.claims.summaries import compare_finished, summary, values
from syncbn.experiments.claims.work import MOMENTUM, Images, images
from syncbn.experiments.compare import POOL
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import NORMALIZERS, Network
from syncbn.layers import BatchNorm, Module
from syncbn.nn import SGD, Sequential, fuse
from syncbn.train import Progress, Trainer, predict

NORMS = ("none", "bn", "syncbn", "gn", "ln")

LITTLE = 0.1
"""Share of a step's time and memory that counts as little."""

ROUNDING = 1e-4
"""Largest difference of the outputs after folding, relative to the largest output."""


@dataclass(frozen=True)
class Settings:
    """Settings of the claim: samples per rank of each network, steps in a round, and rounds."""

    batches: Mapping[Network, int]
    steps: int = 10
    rounds: int = 10


class Overhead(Claim[Settings]):
    """Share of the time and memory of a training step, numbers of parameters, and what folding saves."""

    name = "overhead"
    title = "The cost"
    statement = "Batch normalization costs little: little time and memory, and four numbers for each unit."
    question = "Which share of the time and memory of a training step is the normalizer's, and what does folding save?"
    method = (
        "The networks of `syncbn compare` (an MLP with 32 samples per rank, a residual network with 8) are trained on"
        " all ranks with each normalizer in turn, ten steps a round, so that all see the same load; a step counts "
        "with the median over the rounds. Memory is that of parameters, gradients, momentum and statistics, and of "
        "all arrays that a forward holds for its backward. Folding multiplies the weights of a dense layer by γ/√(var"
        " + ε), which makes the normalizer superfluous at inference."
    )
    rule = (
        "Little is at most 10 %. For each network two checks: BN takes at most that share of the time of a step, and "
        "of its memory. The 2·units parameters and 2·units statistics of a layer, and the outputs after folding, "
        "follow from definitions: they are reported as facts, which do not count. What folding saves is reported "
        "without a check, since the claim does not speak of it."
    )
    published = (
        "Gitman & Ginsburg 2017: BN accounts for a significant fraction of the run-time of training, since it is "
        "bounded by memory bandwidth. The tutorial counts 2·units trainable and 2·units other numbers for a layer."
    )
    caveats = (
        "The rule was changed after a quick run had been seen: the facts and the time after folding counted as checks.",
        "Times depend on the machine and on what else it does; networks this small have large shares, since fixed "
        "costs count more.",
        "Memory does not depend on the seed, so its interval has no width.",
        "On fewer cores than ranks, waiting for other ranks is part of a step.",
    )
    collective = True
    timed = True
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings({"mlp": 8}, steps=2, rounds=2),
        "quick": Settings({"mlp": 32, "resnet": 4}, steps=5, rounds=4),
        "full": Settings({"mlp": 32, "resnet": 8}),
    }

    def check(self, setup: Setup) -> None:
        """Raise ValueError if there are too many ranks for the images."""
        settings = self.settings(setup)
        limit = SAMPLES[setup.effort][0] // (settings.steps * max(settings.batches.values()))
        if setup.ranks > limit:
            raise ValueError(f"claim 'overhead' needs at most {limit} ranks, got {setup.ranks}")

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (there is no search)
        """Return one measurement for each network and seed."""
        settings = self.settings(setup)
        cost = {"mlp": 5e-3, "resnet": 0.12}
        steps = settings.steps * settings.rounds * len(NORMS)
        return [
            Piece({"network": network, "seed": seed}, steps * cost[network])
            for seed in setup.seeds
            for network in settings.batches
        ]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Measure a network with each normalizer. Collective."""
        settings, comm, network = self.settings(context.setup), context.comm, key["network"]
        data = images(context, key["seed"], POOL[network])
        shape: Any = data.x.shape[1:]
        models = {
            norm: build_network(network, norm, key["seed"], image_shape=shape, classes=context.setup.classes, comm=comm)
            for norm in NORMS
        }
        batch = settings.batches[network]
        seconds, diverged = _step_seconds(models, data, comm, settings, batch)
        numbers: Numbers = {
            "diverged": diverged,
            "step_seconds": seconds,
            "time_share": {norm: 1 - seconds["none"] / seconds[norm] for norm in NORMS},
        }
        memory = {norm: _memory(model, data, batch) for norm, model in models.items()}
        numbers["memory_bytes"] = memory
        numbers["memory_share"] = {norm: 1 - memory["none"] / memory[norm] for norm in NORMS}
        numbers["counts"] = _counts(models["bn"])
        if network == "mlp":
            numbers["folding"] = _folding(models["bn"], data)
        return numbers

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Compare the shares with what is little."""
        networks = list(self.settings(setup).batches)
        shares = {
            (number, network, norm): [of_seed[norm] for of_seed in values(results, number, network=network)]
            for number in ("time_share", "memory_share")
            for network in networks
            for norm in NORMS
        }
        text = {"time_share": "time", "memory_share": "memory"}
        checks = [
            compare_finished(
                f"{network}: BN takes at most 10 % of the {text[number]} of a step.",
                results,
                {"network": network},
                {"network": network},
                (f"{number}/bn", f"{number}/none"),
                "%",
                factor=100.0,
                margin=LITTLE,
            )
            for network in networks
            for number in text
        ]
        counts = results[0].numbers["counts"]
        folding = values(results, "folding", network="mlp")
        difference = max(of_seed["difference"] for of_seed in folding)
        checks += [
            Check(
                "Each layer has 2·units parameters and 2·units statistics.",
                all(result.numbers["counts"]["as_stated"] for result in results),
                f"units {', '.join(map(str, counts['units']))}: {counts['parameters']} parameters and "
                f"{counts['statistics']} statistics",
                fact=True,
            ),
            Check(
                "Folding leaves the outputs as they are but for rounding.",
                difference <= ROUNDING,
                f"largest difference {difference:.1g} of the largest output",
                fact=True,
            ),
        ]
        ratios = [of_seed["seconds_folded"] / of_seed["seconds"] for of_seed in folding]
        faster = less("", ratios, [1.0] * len(ratios), unit="%")
        notes = [f"Time of inference after folding, relative to before: {faster.evidence}."]
        charts = [
            Chart(
                f"{text[number]}",
                f"Share of a step's {text[number]}, {setup.ranks} rank{'s' * (setup.ranks > 1)}",
                "normalizer",
                f"share of the {text[number]} (%)",
                [
                    Series(
                        network,
                        [point(NORMALIZERS[norm].label, shares[number, network, norm], 100) for norm in NORMS[1:]],
                    )
                    for network in networks
                ],
                "category",
            )
            for number in text
        ]
        numbers = {
            "shares": [
                {"of": text[number], "network": network, "norm": norm, **summary(found)}
                for (number, network, norm), found in shares.items()
            ],
            "counts": counts,
            "folded_time_ratio": summary(ratios),
        }
        return Conclusion(checks, numbers, charts, notes)


def _step_seconds(
    models: Mapping[str, Sequential], data: Images, comm: Communicator, settings: Settings, batch: int
) -> tuple[dict[str, float], bool]:
    """Return the median seconds of a step with each normalizer, in turn, on the slowest rank, and divergence.

    Collective.
    """
    samples = settings.steps * batch * comm.size
    found: dict[str, list[float]] = {norm: [] for norm in models}
    losses: list[float] = []
    trainers = {
        norm: Trainer(model, SGD(model.parameters(), 1e-3, MOMENTUM), comm, batch_per_rank=batch, check_every=None)
        for norm, model in models.items()
    }
    for number in range(settings.rounds + 1):  # the first is a warm-up
        for norm, trainer in trainers.items():
            steps: list[float] = []

            def record(progress: Progress, steps: list[float] = steps) -> None:
                steps.append(progress.seconds)
                losses.append(progress.loss)

            trainer.fit(data.x[:samples], data.y[:samples], number + 1, on_step=record, progress=False)
            slowest = np.array([statistics.median(steps)])
            comm.allreduce(slowest, "max")
            if number:
                found[norm].append(float(slowest[0]))
    medians = {norm: statistics.median(seconds) for norm, seconds in found.items()}
    return medians, not np.isfinite(losses).all()


def _memory(model: Module, data: Images, batch: int) -> int:
    """Return the bytes of parameters, gradients, momentum and buffers, and of what a forward holds."""
    kept = 3 * sum(parameter.data.nbytes for parameter in model.parameters())
    kept += sum(buffer.nbytes for _, buffer in model.named_buffers())
    x = data.x[:batch].copy()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held = model(x)
        kept += tracemalloc.get_traced_memory()[0] - before
        del held
    finally:
        tracemalloc.stop()
    return kept


def _counts(model: Module) -> Numbers:
    """Return the numbers of parameters and statistics of all batch normalization layers, counted in their arrays."""
    layers = [module for _, module in model.named_modules() if isinstance(module, BatchNorm)]
    parameters = [sum(parameter.data.size for parameter in layer.parameters()) for layer in layers]
    buffers = [sum(buffer.size for _, buffer in layer.named_buffers() if buffer.ndim) for layer in layers]
    units = [layer.num_features for layer in layers]
    return {
        "units": units,
        "parameters": sum(parameters),
        "statistics": sum(buffers),
        "as_stated": parameters == [2 * n for n in units] == buffers,
    }


def _folding(model: Sequential, data: Images) -> Numbers:
    """Fold BN into the dense layers, and return the difference of the outputs and the times of inference."""
    folded = fuse(model)
    x = data.x_held_out
    plain, other = predict(model, x), predict(folded, x)
    seconds: dict[str, list[float]] = {"seconds": [], "seconds_folded": []}
    for _ in range(15):
        for name, network in (("seconds", model), ("seconds_folded", folded)):
            start = time.perf_counter()
            predict(network, x, batch_size=len(x))
            seconds[name].append(time.perf_counter() - start)
    difference = float(np.abs(plain - other).max() / np.abs(plain).max())
    return {"difference": difference, **{name: statistics.median(found) for name, found in seconds.items()}}
