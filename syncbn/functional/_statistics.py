"""What can be said of statistics, and whether there are any."""

from __future__ import annotations

import numpy as np

from syncbn.comm import Communicator
from syncbn.moments import Moments
from syncbn.typing import Float64Array


def moments_of(count: int, moments_5c: Float64Array) -> Moments:
    """Return μ and var of what a kernel has written, which the backward reads: nobody may change it any more."""
    moments_5c.flags.writeable = False
    return Moments(count, moments_5c[0], moments_5c[1])


def check_count(count: int, shape: tuple[int, ...], communicator: Communicator) -> None:
    """Raise ValueError on all ranks when ``count`` values per channel over them have no statistics.

    Collective. No values are an error where a rank has some, of shape ``shape``, that its mask does not select.
    """
    if count > 1:
        return
    if count == 1:
        raise ValueError(
            f"batch normalization needs more than 1 value per channel over all ranks, got 1 "
            f"(x of shape {shape} on this rank)"
        )
    unselected = np.array([0.0 if 0 in shape else 1.0])
    communicator.allreduce(unselected)
    if unselected[0] > 0:
        raise ValueError(f"mask selects no value of x on any rank (x of shape {shape} on this rank)")
