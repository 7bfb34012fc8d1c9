"""Record of the losses whose gradients a backward has begun with, to detect losses with a wrong number of samples."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass

from syncbn.typing import FloatArray


@dataclass(frozen=True)
class Loss:
    """A loss over samples of one rank, divided by ``normalizer``, which the caller may have left out."""

    samples: int
    normalizer: float
    given: bool = True

    @property
    def own_mean(self) -> bool:
        """True if it is the mean over the samples of this rank. One sample divided by 1 can be part of a sum."""
        return self.samples > 0 and (not self.given or self.samples == self.normalizer != 1)


@dataclass(frozen=True)
class Losses:
    """The losses of one step on this rank.

    Attributes
    ----------
    share : float
        Sum of samples / normalizer. Over all ranks, it is 1 for the mean over the global batch, and a whole number for
        several such means and for sums. NaN if no loss is known.
    own_mean : bool
        Whether a loss is the mean over the samples of this rank.
    last : Loss or None
    """

    share: float = math.nan
    own_mean: bool = False
    last: Loss | None = None

    def __add__(self, loss: Loss) -> Losses:
        share = loss.samples / loss.normalizer
        return Losses(
            share=share if self.last is None else self.share + share,
            own_mean=self.own_mean or loss.own_mean,
            last=loss,
        )


class _State(threading.local):
    def __init__(self) -> None:
        self.gradients: dict[int, tuple[weakref.ref[FloatArray], Loss]] = {}  # by id, which is unique while it lives
        self.used = Losses()


_state = _State()


def remember_loss(gradient: FloatArray, loss: Loss) -> None:
    """Remember the gradient of a loss as long as it exists."""
    gradients, key = _state.gradients, id(gradient)
    gradients[key] = weakref.ref(gradient, lambda _: gradients.pop(key, None)), loss


def notice_backward(dy: FloatArray) -> None:
    """Record the loss, once, if a backward begins with its gradient."""
    found = _state.gradients.pop(id(dy), None)
    if found is not None:
        _state.used += found[1]


def used_losses() -> Losses:
    """Return the losses recorded since the last call of `forget_losses`."""
    return _state.used


def forget_losses() -> None:
    """Forget the recorded losses, because their gradients have been used or discarded."""
    _state.used = Losses()
