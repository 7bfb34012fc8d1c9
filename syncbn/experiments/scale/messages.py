"""The messages that a synchronized layer sends."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from syncbn._core.checks import Reduction
from syncbn.comm.protocol import CAPACITY, HANDSHAKE_BYTES

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

WORD = 8
"""Bytes of a float64 or int64 word."""


class Message(NamedTuple):
    """One allreduce: how words are combined, and how many bytes each rank sends."""

    op: Literal["max", "sum"]
    nbytes: int


def layer_messages(channels: int, direction: Direction, reduction: Reduction) -> tuple[Message, ...]:
    """Return the allreduces of one layer in one direction, in their order.

    First the handshake, a MAX of one fixed size, which carries the ranges of the channels in exact arithmetic; a
    MAX of their own where they do not fit in there; then the SUM:

    ========= ========================= =================== ==================
    reduction direction                 ranges (float64)    sums (8-byte words)
    ========= ========================= =================== ==================
    exact     forward                   1 + 2C              1 + 4C
    exact     backward                  2C                  4C
    float64   forward                   none                1 + 4C
    float64   backward                  none                2C
    ========= ========================= =================== ==================

    Parameters
    ----------
    channels : int
        C.
    direction : {"forward", "backward"}
    reduction : {"exact", "float64"}
    """
    count = int(direction == "forward")
    ranges = count + 2 * channels if reduction == "exact" else 0
    sums = 2 * channels if (reduction, direction) == ("float64", "backward") else count + 4 * channels
    own = () if ranges <= CAPACITY else (Message("max", ranges * WORD),)
    return (Message("max", HANDSHAKE_BYTES), *own, Message("sum", sums * WORD))
