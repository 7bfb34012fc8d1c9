"""The order of the samples in training, and the share of each rank."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np

from syncbn._core.checks import check_integer
from syncbn.pitfalls import see
from syncbn.typing import Int64Array


class Share(NamedTuple):
    """The share of a rank in a batch of a `DataOrder`."""

    batch: str
    samples: int
    rank: int
    size: int


class _State(threading.local):
    """The last batch of a `DataOrder` and its size, and the last share of such a batch."""

    batch: str = ""
    samples: int | None = None
    share: Share | None = None


_state = _State()


def take_share() -> Share | None:
    """Return the last share of a batch since the last call, as far as it was divided by `shard`."""
    share, _state.share = _state.share, None
    return share


def wrong_shares(shares: Sequence[Share | None]) -> ValueError | None:
    """Return the error of ranks that have not taken their own shares of the same batch; None where a share is unknown.

    Parameters
    ----------
    shares : sequence of Share or None
        Those of all ranks.
    """
    for rank, share in enumerate(shares):
        if share is None or shares[0] is None:
            continue
        if share.batch != shares[0].batch:
            return ValueError(
                f"ranks train on different batches: rank 0 on {shares[0].batch}, rank {rank} on {share.batch}. Make "
                f"the same DataOrder of all samples on all ranks, and the same steps{see('batches-of-ranks')}"
            )
        if (share.rank, share.size) != (rank, len(shares)):
            return ValueError(
                f"rank {rank} of {len(shares)} has taken the share of rank {share.rank} of {share.size}: call "
                f"shard(len(batch), comm.rank, comm.size) with the communicator of the sum{see('batches-of-ranks')}"
            )
    return None


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
    if samples == _state.samples:
        _state.share = Share(_state.batch, samples, rank, size)
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

    def batches(self, epoch: int, start: int = 0) -> Iterator[Int64Array]:
        """Return an iterator over the indices of each step from ``start`` on; ``epoch`` and ``start`` begin at 0."""
        return self._batches(check_integer("epoch", epoch, 0), check_integer("start", start, 0))

    def _batches(self, epoch: int, start: int) -> Iterator[Int64Array]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        for step in range(start, self.steps):
            batch = order[step * self.global_batch : (step + 1) * self.global_batch]
            _state.batch, _state.samples = f"step {step} of epoch {epoch} of {self}", len(batch)
            yield batch
