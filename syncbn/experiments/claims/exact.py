"""The claim that synchronized batch normalization is exact."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from syncbn._core.checks import Reduction
from syncbn.comm import Communicator
from syncbn.experiments.claims.chart import Chart, Series, point
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.claim import Claim, Conclusion, Numbers, Piece, Result
from syncbn.experiments.claims.models import mlp
from syncbn.experiments.claims.setup import Context, Effort, Setup
from syncbn.experiments.claims.summaries import compare_finished, summary, values
from syncbn.experiments.claims.work import Images, finite, fit, images
from syncbn.layers import BatchNorm, Module, SyncBatchNorm
from syncbn.train import Progress, predict, shard

NAMES = ("syncbn", "bn")

REDUCTIONS: tuple[Reduction, ...] = ("exact", "float64")


@dataclass(frozen=True)
class Settings:
    """Settings of the claim."""

    steps: int = 100
    every: int = 20
    global_batch: int = 24
    lr: float = 0.03


class Exact(Claim[Settings]):
    """Bits of the statistics during training, and distance of the parameters after it, by number of ranks."""

    name = "exact"
    title = "Exact synchronization"
    statement = "Synchronized batch normalization is exact: every number of ranks gives the bits of one process."
    question = (
        "Do statistics, outputs and gradients keep their bits on 1, 2, … ranks during training, and the parameters?"
    )
    method = (
        "An MLP is trained on all ranks with a global batch of 24 images. Every 20 steps, the next batch of inputs of"
        " its first normalizer is divided over the first 1, 2, … ranks (those that divide 24), and hashes of mean, "
        "variance, y and dx are compared. Then training is repeated on 1, 2, … ranks with SyncBN and with local BN, "
        "and the parameters after 100 steps are compared with those of one rank."
    )
    rule = (
        "Two checks: all hashes of the exact layer are equal on every number of ranks; and after training on all "
        "ranks, the parameters with SyncBN are closer to those of one rank than with local BN."
    )
    published = (
        "PyTorch, Flax, Horovod and ChainerMN synchronize in floating point, whose results depend on the number of "
        "ranks: tensorflow issue 60438 reports 7e-4, pytorch issue 124680 is open."
    )
    caveats = (
        "Equal bits do not follow from the definition: sums of floating-point numbers depend on their order, and the "
        "control with such sums must show a difference, or the first check counts as neither (a rule that was added "
        "after a quick run had been seen).",
        "The gradients of weights come from BLAS, which rounds products of other shapes differently, so the parameters "
        "differ in the last places even with an exact layer.",
    )
    collective = True
    efforts: ClassVar[Mapping[Effort, Settings]] = {
        "smoke": Settings(steps=8, every=4),
        "quick": Settings(),
        "full": Settings(steps=200),
    }

    def check(self, setup: Setup) -> None:
        """Raise ValueError if there is a single rank, or more ranks than samples."""
        limit = self.settings(setup).global_batch
        if not 2 <= setup.ranks <= limit:
            raise ValueError(f"claim 'exact' compares numbers of ranks: use --ranks 2 to {limit}, got {setup.ranks}")

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:  # noqa: ARG002 (there is no search)
        """Return the observation of the bits and the comparison of parameters, for each seed."""
        steps = self.settings(setup).steps
        cost = {"bits": 5e-3 * steps, "parameters": 1e-2 * steps * setup.ranks}
        return [Piece({"part": part, "seed": seed}, cost[part]) for seed in setup.seeds for part in cost]

    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Compare bits or parameters. Collective."""
        settings, data, seed = self.settings(context.setup), images(context, key["seed"]), key["seed"]
        part = _bits if key["part"] == "bits" else _parameters
        return part(settings, data, seed, context)

    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:  # noqa: ARG002
        """Count different hashes, and compare distances."""
        bits = [result.numbers for result in results if result.matches(part="bits")]
        equal = {reduction: sum(number["equal"][reduction] for number in bits) for reduction in REDUCTIONS}
        compared = sum(number["compared"] for number in bits)
        trained = [result for result in results if result.matches(part="parameters")]
        distances = {name: values(trained, name) for name in NAMES}
        sizes = _sizes(self.settings(setup), setup.ranks)
        checks = [
            Check(
                f"Mean, variance, y and dx have the same bits on {', '.join(map(str, sizes))} ranks.",
                _same_bits(compared, equal),
                f"{equal['exact']} of {compared} batches during training have equal bits; "
                f"with floating-point sums {equal['float64']}",
            ),
            compare_finished(
                "The parameters after training are closer to those of one rank with SyncBN than with local BN.",
                trained,
                {},
                {},
                names=("last/syncbn", "last/bn"),
                unit="(relative distance)",
            ),
        ]
        numbers = {
            "batches_compared": compared,
            "batches_with_equal_bits": equal,
            "relative_distance": {
                name: [
                    {"ranks": size, **summary([of_seed[at] for of_seed in distances[name]])}
                    for at, size in enumerate(sizes[1:])
                ]
                for name in NAMES
            },
        }
        series = [
            Series(
                {"syncbn": "SyncBN", "bn": "local BN"}[name],
                [point(size, [of_seed[at] for of_seed in distances[name]]) for at, size in enumerate(sizes[1:])],
            )
            for name in NAMES
        ]
        title = f"Parameters after {self.settings(setup).steps} steps, compared with one rank"
        chart = Chart("parameters", title, "ranks", "relative distance ‖Δθ‖ / ‖θ‖", series, "category", "log")
        return Conclusion(checks, numbers, [chart])


def _bits(settings: Settings, data: Images, seed: int, context: Context) -> Numbers:
    """Train on all ranks, and count the batches whose statistics, y and dx have the same bits on 1, 2, … ranks."""
    comm, groups = context.comm, _groups(settings, context)
    model = mlp(data.pixels, context.setup.classes, seed, lambda units: SyncBatchNorm(units, comm=comm))
    equal = dict.fromkeys(REDUCTIONS, 0)
    compared = 0

    def watch(progress: Progress) -> None:
        nonlocal compared
        if progress.step % settings.every == 0 and math.isfinite(progress.loss):  # NaN equals NaN, which shows nothing
            start = progress.step * settings.global_batch % (len(data.x) - settings.global_batch)
            x = predict(model[:2], data.x[start : start + settings.global_batch])
            compared += 1
            for reduction in REDUCTIONS:
                hashes = [_hash(x, group, reduction, seed) for group in groups]
                equal[reduction] += len(set(hashes)) == 1

    diverged = _train(model, settings, data, comm, seed, watch)
    return {"compared": compared, "equal": equal, "diverged": diverged}


def _same_bits(compared: int, equal: Mapping[Reduction, int]) -> bool | None:
    """Return whether all batches have equal bits; None if nothing was compared, or the control shows no difference.

    The control is the same comparison with floating-point sums: where these have equal bits too, any layer would have.
    """
    if compared and equal["exact"] == compared and equal["float64"] == compared:
        return None
    return equal["exact"] == compared if compared else None


def _hash(x: np.ndarray[Any, Any], group: Communicator, reduction: Reduction, seed: int) -> str:
    """Return the hash of moments, y and dx of a batch that is divided over the ranks of a group. Collective."""
    layer = SyncBatchNorm(x.shape[1], momentum=1.0, comm=group, reduction=reduction)
    own = shard(len(x), group.rank, group.size)
    dy = np.random.default_rng([seed, 1]).standard_normal(x.shape).astype(x.dtype)
    y, backward = layer(x[own])
    parts = group.allgather((y, backward(dy[own])))
    digest = hashlib.sha256()
    for array in (layer.running_mean, layer.running_var, *map(np.concatenate, zip(*parts, strict=True))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _parameters(settings: Settings, data: Images, seed: int, context: Context) -> Numbers:
    """Return the relative distances of the parameters after training on 2, 3, … ranks from those of one rank."""
    found: dict[str, list[float | None]] = {}
    diverged = False
    for name in NAMES:
        trained = []
        for group in _groups(settings, context):

            def norm(units: int, group: Communicator = group, local: bool = name == "bn") -> BatchNorm:
                return BatchNorm(units) if local else SyncBatchNorm(units, comm=group)

            model = mlp(data.pixels, context.setup.classes, seed, norm)
            diverged |= _train(model, settings, data, group, seed)
            trained.append(np.concatenate([p.data.ravel() for p in model.parameters()]).astype(np.float64))
        found[name] = [finite(np.linalg.norm(t - trained[0]) / np.linalg.norm(trained[0])) for t in trained[1:]]
    return {**found, "last": {name: found[name][-1] or 0.0 for name in NAMES}, "diverged": diverged}


def _train(model: Module, settings: Settings, data: Images, comm: Communicator, seed: int, watch: Any = None) -> bool:
    """Train with the same global batches on any number of ranks, and return whether it diverged. Collective."""
    samples = settings.steps * settings.global_batch
    return fit(
        model,
        data.x[:samples],
        data.y[:samples],
        comm,
        lr=settings.lr,
        batch=max(1, settings.global_batch // comm.size),
        epochs=1,
        seed=seed,
        on_step=watch,
    )


def _sizes(settings: Settings, ranks: int) -> list[int]:
    """Return the numbers of ranks over which the global batch can be divided evenly."""
    return [size for size in range(1, ranks + 1) if settings.global_batch % size == 0]


def _groups(settings: Settings, context: Context) -> list[Communicator]:
    """Return the groups of 1, 2, … ranks to which this rank belongs; rank 0 is in full ones. Collective."""
    names = {f"first {size}": size for size in _sizes(settings, context.comm.size)}
    for name, size in names.items():
        if name not in context.groups:
            context.groups[name] = context.comm.split(size)
    return [context.groups[name] for name in names]
