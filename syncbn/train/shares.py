"""Record of the batch that this rank has taken a share of, to detect ranks that train on different ones."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple


class Batch(NamedTuple):
    """A batch of a `DataOrder`, by its number of samples, the order, the epoch and the step."""

    samples: int
    order: Any
    epoch: int
    step: int

    def __str__(self) -> str:
        return f"step {self.step} of epoch {self.epoch} of {self.order}"


class Share(NamedTuple):
    """The share of a rank in a batch."""

    batch: Batch
    rank: int
    size: int


class _State(threading.local):
    batch: Batch | None = None
    share: Share | None = None


_state = _State()


def note_batch(samples: int, order: Any, epoch: int, step: int) -> None:
    """Record the batch that a `DataOrder` has returned."""
    _state.batch = Batch(samples, order, epoch, step)


def note_share(samples: int, rank: int, size: int) -> None:
    """Record the share of a rank, if it is one of so many samples as the last batch has, or those before it.

    In a loop over a list of batches, the last one that a `DataOrder` has returned is the last of the list.
    """
    if _state.batch is not None and samples in (_state.batch.samples, _state.batch.order.global_batch):
        _state.share = Share(_state.batch, rank, size)


def take_share() -> Share | None:
    """Return the last share since the last call, None if there is none."""
    share, _state.share = _state.share, None
    return share
