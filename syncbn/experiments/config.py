"""Configuration of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

from syncbn._core.checks import REDUCTIONS, Reduction
from syncbn.experiments.normalizers import NORMALIZERS, Network

NETWORKS: tuple[Network, ...] = ("mlp", "resnet")
LR_BATCH = 32
"""Global batch size at which the learning rates are those of `CompareConfig.lr`."""


@dataclass(frozen=True)
class CompareConfig:
    """Configuration of a comparison.

    Attributes
    ----------
    norms : tuple of str
        Keys of `NORMALIZERS`.
    batches : tuple of int
        Samples per rank and step.
    network : {"mlp", "resnet"}
    epochs : int
        Passes over the training data.
    seeds : int
        Number of runs of each normalizer and batch size, with seeds 0, 1, …; a seed determines the initial
        weights and the order of the data, independently of the normalizer.
    lr : tuple of float
        Learning rates for a global batch of 32, scaled linearly with the global batch (Goyal et al. 2017).
    momentum : float
        Momentum of SGD.
    evaluations : int
        Evaluations on the test set per epoch.
    data : str
        Name or directory for `syncbn.data.load`.
    train_samples, test_samples : int or None
        Use only the first samples (the caller of `compare` selects them).
    reduction : {"exact", "float64"}
        Reduction of `SyncBatchNorm`.

    Raises
    ------
    ValueError
        A value is not valid.
    """

    norms: tuple[str, ...] = ("none", "bn", "syncbn", "gn", "ln")
    batches: tuple[int, ...] = (2, 8, 32)
    network: Network = "mlp"
    epochs: int = 2
    seeds: int = 3
    lr: tuple[float, ...] = (0.03,)
    momentum: float = 0.9
    evaluations: int = 4
    data: str = "fashion-mnist-10k"
    train_samples: int | None = None
    test_samples: int | None = None
    reduction: Reduction = "exact"

    def __post_init__(self) -> None:
        _check_choices("network", (self.network,), NETWORKS)
        _check_choices("norm", self.norms, tuple(NORMALIZERS))
        _check_choices("reduction", (self.reduction,), REDUCTIONS)
        for name in self.norms:
            if self.network not in NORMALIZERS[name].networks:
                raise ValueError(f"norm {name!r} does not fit network {self.network!r}: {NORMALIZERS[name].reason}")
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            raise ValueError(f"batches must be different positive numbers, got {','.join(map(str, self.batches))!r}")
        for attribute in ("epochs", "seeds", "evaluations", "train_samples", "test_samples"):
            value = getattr(self, attribute)
            if value is not None and value < 1:
                raise ValueError(f"{attribute.replace('_', '-')} must be at least 1, got {value}")
        if not self.lr or not all(0 < lr < math.inf for lr in self.lr) or len(set(self.lr)) < len(self.lr):
            raise ValueError(f"lr must be different positive numbers, got {','.join(f'{lr:g}' for lr in self.lr)!r}")

    def steps(self, global_batch: int, samples: int) -> int:
        """Return the number of training steps; an incomplete last batch of an epoch is dropped."""
        return self.epochs * (samples // global_batch)

    def check_batches(self, ranks: int, samples: int) -> None:
        """Raise ValueError if a batch is too large for the data or too small to have a variance."""
        if max(self.batches) * ranks > samples:
            raise ValueError(
                f"{max(self.batches)} samples per rank on {counted(ranks, 'rank')} "
                f"are more than the {samples} samples of the data"
            )
        local = [name for name in self.norms if name in ("bn", "brn") or (name in ("syncbn", "ghost") and ranks == 1)]
        if self.network == "mlp" and min(self.batches) == 1 and local:
            raise ValueError(f"norm {local[0]!r} needs batches of at least 2: one sample has no variance")


def scaled(lr: float, global_batch: int) -> float:
    """Return the learning rate of a global batch."""
    return lr * global_batch / LR_BATCH


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural, such as ``2 ranks``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _check_choices(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    for position, value in enumerate(values):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r} (choose from {', '.join(known)})")
        if value in values[:position]:
            raise ValueError(f"{name} {value!r} is given twice")
    if not values:
        raise ValueError(f"at least one {name} is needed (choose from {', '.join(known)})")
