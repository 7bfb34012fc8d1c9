"""Which samples each step takes, and which of them each rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from syncbn.typing import Int64Array


def shard(samples: int, rank: int, size: int) -> slice:
    """Return rank's contiguous share of ``samples``; the first ``samples % size`` ranks have one more.

    Parameters
    ----------
    samples : int
    rank, size : int
    """
    share, more = divmod(samples, size)
    start = rank * share + min(rank, more)
    return slice(start, start + share + (rank < more))


@dataclass(frozen=True)
class DataOrder:
    """A new order of all samples in every epoch, cut into global batches.

    It depends on these four numbers and the epoch alone, never on how many ranks share a batch.

    Attributes
    ----------
    samples : int
    global_batch : int
        Samples per step, over all ranks.
    seed : int
    drop_last : bool
        Leave out the last batch of an epoch where it is smaller than the others.
    """

    samples: int
    global_batch: int
    seed: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            least = self.global_batch if self.drop_last else 1
            raise ValueError(f"an epoch needs at least {least} samples, got {self.samples}")

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        whole, rest = divmod(self.samples, self.global_batch)
        return whole + (rest > 0 and not self.drop_last)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Int64Array]:
        """Yield the samples of each step of ``epoch`` (counted from 0) from step ``start`` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        for step in range(start, self.steps):
            yield order[step * self.global_batch : (step + 1) * self.global_batch]
