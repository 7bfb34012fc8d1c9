"""The first message of every synchronized call: one fixed size, so headers always meet headers.

Words, all int16 and all combined over ranks by MAX::

    [0]             1 where a rank had bad input
    [1 : 1+H]       header h
    [1+H : 1+2H]    −h
    [1+2H : ]       this call's maxima (the exponents of its channels), where they fit

Ranks agree when max(h) = h and max(−h) = −h, that is min(h) = h, for each word. Where a word differs
between ranks, one of the two fails on every rank, so that all of them take the same branch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.comm.call import DIGEST_WORDS, NUMBER_WORDS

Int16Array = NDArray[np.int16]

FIRST_MESSAGE_WORDS = 1024
"""2 KiB: the size up to which MPICH's allreduce stays on its low-latency algorithm."""

_HEADER = NUMBER_WORDS + DIGEST_WORDS
_MAXIMA = 1 + 2 * _HEADER


class FirstMessage:
    """The words of one first message, to be written, combined over ranks, compared and read."""

    def __init__(self, header: Int16Array, maxima: Int16Array, *, failed: bool) -> None:
        self._header = header
        self._maxima = maxima
        self.buffer: Int16Array = np.zeros(FIRST_MESSAGE_WORDS, dtype=np.int16)
        self.buffer[0] = failed
        self.buffer[1 : 1 + _HEADER] = header
        self.buffer[1 + _HEADER : _MAXIMA] = -header
        if self.holds_maxima:
            self.buffer[_MAXIMA : _MAXIMA + maxima.size] = maxima.ravel()

    @property
    def holds_maxima(self) -> bool:
        """Whether the maxima fit; otherwise they need a message of their own."""
        return self._maxima.size <= FIRST_MESSAGE_WORDS - _MAXIMA

    def agrees(self) -> bool:
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return bool(
            self.buffer[0] == 0
            and np.array_equal(self.buffer[1 : 1 + _HEADER], self._header)
            and np.array_equal(self.buffer[1 + _HEADER : _MAXIMA], -self._header)
        )

    def read_maxima(self) -> None:
        """Copy the combined maxima back to where they came from."""
        self._maxima[...] = self.buffer[_MAXIMA : _MAXIMA + self._maxima.size].reshape(self._maxima.shape)
