"""The first message of every collective call: one fixed size, so headers always meet headers.

Words, all float64 and all combined over ranks by MAX::

    [0]            1 where a rank had bad input
    [1 : 1+2H]     header: whole numbers h and −h
    [1+2H : ]      this call's maxima (the ranges of its channels), where they fit

Ranks agree when max(h) = h and max(−h) = −h, that is min(h) = h, for each word. Where a word differs
between ranks, one of the two fails on every rank, so that all of them take the same branch.
"""

from __future__ import annotations

import numpy as np

from syncbn.comm.call import HEADER_WORDS
from syncbn.typing import Float64Array

FIRST_MESSAGE_WORDS = 256
"""2 KiB: the size up to which MPICH's allreduce stays on its low-latency algorithm."""

FIRST_MESSAGE_BYTES = 8 * FIRST_MESSAGE_WORDS

_MAXIMA = 1 + HEADER_WORDS
_ALL_WELL = bytes(8)  # 0.0


class FirstMessage:
    """A buffer for first messages, one after the other: written, combined over ranks, compared and read."""

    def __init__(self) -> None:
        self.buffer: Float64Array = np.zeros(FIRST_MESSAGE_WORDS)
        self._head = self.buffer.data.cast("B")[: 8 * _MAXIMA]
        self._written = b""
        self._rooms: dict[int, Float64Array] = {}

    @staticmethod
    def holds(maxima: Float64Array) -> bool:
        """Tell whether the maxima fit; otherwise they need a message of their own."""
        return maxima.size <= FIRST_MESSAGE_WORDS - _MAXIMA

    def room(self, size: int) -> Float64Array | None:
        """Return where so many maxima lie in the buffer: written there, they need not be copied. None: nowhere."""
        found = self._rooms.get(size)
        if found is None and size <= FIRST_MESSAGE_WORDS - _MAXIMA:
            found = self._rooms[size] = self.buffer[_MAXIMA : _MAXIMA + size]
        return found

    def write(self, header: bytes, maxima: Float64Array, failed: bool) -> bool:
        """Begin a message: ``failed`` says that this rank has bad input. Return whether the maxima fit."""
        self._head[:] = self._written = _ALL_WELL + header
        if failed:
            self.buffer[0] = 1
        room = self.room(maxima.size)
        if room is not None and room is not maxima:
            room[:] = maxima.reshape(-1)
        return room is not None

    def agrees(self) -> bool:
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return self._head == self._written

    def read_maxima(self, maxima: Float64Array) -> None:
        """Copy the combined maxima back to where they came from."""
        room = self._rooms[maxima.size]
        if room is not maxima:
            maxima[...] = room.reshape(maxima.shape)
