"""The order of the samples in training, and the share of each rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from syncbn._core.checks import check_flag, check_integer
from syncbn.train.shares import note_batch, note_share
from syncbn.typing import Int64Array


def shard(samples: int, rank: int, size: int) -> slice:
    """Return the contiguous share of a rank; the first ``samples % size`` ranks have one sample more.

    Parameters
    ----------
    samples : int
        Number of samples of all ranks.
    rank, size : int
        Number of the rank, and number of ranks.

    Raises
    ------
    ValueError
        The rank is not in 0 to size − 1, or the number of samples is negative.
    TypeError
        An argument is not an integer.

    See Also
    --------
    syncbn.train.DataOrder : The batches of all ranks.

    Examples
    --------
    >>> from syncbn.train import shard
    >>> [shard(10, rank, 4) for rank in range(4)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None), slice(8, 10, None)]
    """
    own = own_share(samples, rank, size)
    note_share(samples, rank, size)
    return own


def own_share(samples: int, rank: int, size: int) -> slice:
    """Return the slice of `shard`, without recording it for the check of `sum_gradients`."""
    for name, value in (("samples", samples), ("rank", rank), ("size", size)):  # their range is below
        check_integer(name, value, None)
    if samples < 0 or not 0 <= rank < size:
        raise ValueError(
            f"shard expects (samples, rank, size) with rank from 0 to size - 1, got samples={samples}, rank={rank}, "
            f"size={size}"
        )
    share, more = divmod(samples, size)
    start = rank * share + min(rank, more)
    return slice(start, start + share + (rank < more))


@dataclass(frozen=True)
class DataOrder:
    """Random order of all samples in each epoch, divided into global batches.

    It depends only on these attributes and the epoch, not on the number of ranks.

    Attributes
    ----------
    samples : int
        Number of samples of an epoch.
    global_batch : int
        Number of samples of a step, over all ranks.
    seed : int
        Seed of the random order.
    drop_last : bool
        Whether to leave out the last batch of an epoch if it is smaller than the others.

    Raises
    ------
    ValueError, TypeError
        An attribute is not an integer, or is out of range.

    See Also
    --------
    syncbn.train.shard : The share of a rank.

    Examples
    --------
    >>> from syncbn.train import DataOrder
    >>> order = DataOrder(samples=10, global_batch=4, seed=0)
    >>> order.steps, len(order)
    (3, 3)
    >>> [len(batch) for batch in order.batches(epoch=0)]
    [4, 4, 2]
    """

    samples: int
    global_batch: int
    seed: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, 0)
        check_integer("global_batch", self.global_batch)
        check_integer("seed", self.seed, 0)
        check_flag("drop_last", self.drop_last)
        if self.steps < 1:
            least = self.global_batch if self.drop_last else 1
            raise ValueError(f"an epoch needs at least {least} samples, got {self.samples}")

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self.steps

    def __iter__(self) -> NoReturn:
        raise TypeError("the order of a DataOrder differs between epochs: iterate over order.batches(epoch)")

    @property
    def steps(self) -> int:
        """Number of steps of an epoch."""
        whole, rest = divmod(self.samples, self.global_batch)
        return whole + (rest > 0 and not self.drop_last)

    def batches(self, epoch: int, start: int = 0) -> Batches:
        """Return an iterator over the indices of each step from ``start`` on; ``epoch`` and ``start`` begin at 0.

        Its length is the number of steps left, as tqdm shows it. Iterate over it directly: of a list of it,
        `sum_gradients` compares the orders and shares of the ranks, but not the steps.
        """
        return Batches(self, check_integer("epoch", epoch, 0), check_integer("start", start, 0))


class Batches(Iterator[Int64Array]):
    """The batches of one epoch of a `DataOrder`, from a step on."""

    def __init__(self, order: DataOrder, epoch: int, start: int) -> None:
        self._order, self._epoch, self._step = order, epoch, start
        self._samples: Int64Array = np.random.default_rng([order.seed, epoch]).permutation(order.samples)

    def __len__(self) -> int:
        """Return the number of steps left."""
        return max(self._order.steps - self._step, 0)

    def __next__(self) -> Int64Array:
        if not len(self):
            raise StopIteration
        start = self._step * self._order.global_batch
        batch = self._samples[start : start + self._order.global_batch]
        note_batch(len(batch), self._order, self._epoch, self._step)
        self._step += 1
        return batch
