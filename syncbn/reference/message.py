"""The first message of every collective call: one fixed size, so headers always meet headers.

Words, all float64 and all combined over ranks by MAX::

    [0]            1 where a rank had bad input
    [1 : 1+H]      header: the call's number, its forward's, and its digest, as whole numbers h and −h
    [1+H : ]       this call's maxima (the ranges of its channels), or every rank's summands, where they fit

Ranks agree when max(h) = h and max(−h) = −h, that is min(h) = h, for each word. Where a word differs
between ranks, one of the two fails on every rank, so that all of them take the same branch.

Summands lie in places of their own for each rank, and all others write −∞ there: MAX gathers them.
"""

from __future__ import annotations

import struct

import numpy as np

from syncbn.typing import Float64Array

WORDS = 256
"""2 KiB: the size up to which MPICH's allreduce stays on its low-latency algorithm."""

_NUMBERS = struct.Struct("=5d")  # native byte order, as the buffer's

DIGEST_WORDS = 6
"""Three, and their negatives."""

_HEAD = 5 + DIGEST_WORDS

ROOM = WORDS - _HEAD
"""Words beside the header."""


class FirstMessage:
    """A buffer for first messages, one after the other: written, combined over ranks, compared and read.

    Parameters
    ----------
    rank, size : int
        Of the ranks that exchange it.

    Attributes
    ----------
    buffer : ndarray of float64
        To be combined over ranks by MAX.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.buffer: Float64Array = np.zeros(WORDS)
        self._head = self.buffer.data.cast("B")[: 8 * _HEAD]
        self._written = b""
        self._rank = rank
        self._size = size

    def room(self, words: int) -> Float64Array | None:
        """Return where so many maxima lie in the buffer: written there, they need not be copied. None: nowhere."""
        return self.buffer[_HEAD : _HEAD + words] if words <= ROOM else None

    def write(
        self,
        digest: bytes,
        number: int,
        forward_number: int,
        failed: bool,
        maxima: Float64Array,
        summands: Float64Array | None,
    ) -> bool:
        """Write a message; ``failed`` says that this rank has bad input.

        Return whether the maxima, or the summands of all ranks, fit; otherwise they need a message of their own.
        """
        self._head[:] = self._written = _NUMBERS.pack(0, number, -number, forward_number, -forward_number) + digest
        if failed:
            self.buffer[0] = 1
        if summands is None:
            room = self.room(maxima.size)
            if room is not None:
                room[:] = maxima.reshape(-1)
            return room is not None
        places = self.room(self._size * summands.size)
        if places is None:
            return False
        places.fill(-np.inf)
        own = places[self._rank * summands.size : (self._rank + 1) * summands.size]
        own[:] = summands.reshape(-1)
        np.copyto(own, np.inf, where=np.isnan(own))  # what MAX makes of NaN is left open
        return True

    def agrees(self) -> bool:
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return self._head == self._written

    def read(self, maxima: Float64Array, summands: Float64Array | None) -> None:
        """Replace maxima that fit by those of all ranks, or summands by their sum over ranks, in the order of ranks."""
        if summands is None:
            maxima[...] = self.buffer[_HEAD : _HEAD + maxima.size].reshape(maxima.shape)
        else:
            places = self.buffer[_HEAD : _HEAD + self._size * summands.size]
            places.reshape(self._size, *summands.shape).sum(axis=0, out=summands)
