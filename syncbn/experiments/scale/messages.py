"""The messages of a synchronized layer."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from syncbn._core.checks import Reduction
from syncbn.comm.protocol import CAPACITY, HANDSHAKE_BYTES

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

ITEMSIZE = 8
"""Bytes of a float64 or int64 number."""


class Message(NamedTuple):
    """One allreduce: its operation and the bytes that each rank sends."""

    op: Literal["max", "sum"]
    nbytes: int


def layer_messages(channels: int, direction: Direction, reduction: Reduction) -> tuple[Message, ...]:
    """Return the allreduces of one layer in one direction, in order.

    The first is the handshake, a MAX of fixed size that includes the ranges of the channels for exact sums; ranges that
    do not fit into it follow in a second MAX. The last is the SUM:

    ========= ========================= =================== ==================
    reduction direction                 ranges (float64)    sums (8-byte limbs)
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
    separate = () if ranges <= CAPACITY else (Message("max", ranges * ITEMSIZE),)
    return (Message("max", HANDSHAKE_BYTES), *separate, Message("sum", sums * ITEMSIZE))
