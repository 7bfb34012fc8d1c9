"""The messages of collective calls, but for MPI itself.

The first message of every call has one fixed size, so headers always meet headers. Words, all float64
and all combined over ranks by MAX::

    [0]            1 where a rank had bad input
    [1 : 1+H]      header: the call's number, its forward's, and its digest, as whole numbers h and −h
    [1+H : ]       this call's maxima (the ranges of its channels), where they fit

Ranks agree when max(h) = h and max(−h) = −h, that is min(h) = h, for each word. Where a word differs
between ranks, one of the two fails on every rank, so that all of them take the same branch.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import Float64Array

WORDS = 256
"""2 KiB: the size up to which MPICH's allreduce stays on its low-latency algorithm."""

_NUMBERS = struct.Struct("=5d")  # native byte order, as the buffer's

DIGEST_WORDS = 6
"""Three, and their negatives."""

_HEAD = 5 + DIGEST_WORDS

ROOM = WORDS - _HEAD
"""Words beside the header."""

TESTS = 20
"""Of a message that was just sent: a few microseconds. Then its rank has other things to do as well."""


class FirstMessage:
    """A buffer for first messages, one after the other: written, combined over ranks, compared and read.

    Attributes
    ----------
    buffer : ndarray of float64
        To be combined over ranks by MAX.
    """

    def __init__(self) -> None:
        self.buffer: Float64Array = np.zeros(WORDS)
        self._head = self.buffer.data.cast("B")[: 8 * _HEAD]
        self._written = b""

    def room(self, words: int) -> Float64Array | None:
        """Return where so many maxima lie in the buffer: written there, they need not be copied. None: nowhere."""
        return self.buffer[_HEAD : _HEAD + words] if words <= ROOM else None

    def write(self, digest: bytes, number: int, forward_number: int, failed: bool, maxima: Float64Array) -> bool:
        """Write a message; ``failed`` says that this rank has bad input.

        Return whether the maxima fit; otherwise they need a message of their own.
        """
        self._head[:] = self._written = _NUMBERS.pack(0, number, -number, forward_number, -forward_number) + digest
        if failed:
            self.buffer[0] = 1
        room = self.room(maxima.size)
        if room is not None:
            room[:] = maxima.reshape(-1)
        return room is not None

    def agrees(self) -> bool:
        """Tell from the combined words whether all ranks wrote the same header and none failed."""
        return self._head == self._written

    def read(self, maxima: Float64Array) -> None:
        """Replace maxima that fit by those of all ranks."""
        maxima[...] = self.buffer[_HEAD : _HEAD + maxima.size].reshape(maxima.shape)


class PlannedMessage:
    """Memory that is combined over ranks again and again. Not collective, but `send` is.

    A persistent request (MPI 4.0) takes half the time of a new one where the caches hold something else.

    Parameters
    ----------
    buffer : ndarray, contiguous
        It must live as long as a message that was not waited for.
    comm, in_place, op
        MPI's communicator, IN_PLACE and operation.
    """

    def __init__(self, buffer: NDArray[Any], comm: Any, in_place: Any, op: Any) -> None:
        self.buffer = buffer
        self._arguments = in_place, buffer, op
        self._comm = comm
        self._request: Any = None

    def send(self) -> Any:
        """Begin to combine the buffer; return the request, or None where it came to its end at once. Collective.

        All ranks must send their planned messages for the first time in the same order: requests are made here.
        """
        if self._request is None:
            try:
                self._request = self._comm.Allreduce_init(*self._arguments)
            except NotImplementedError:  # before MPI 4.0
                return self._comm.Iallreduce(*self._arguments)
        self._request.Start()
        return None if any(self._request.Test() for _ in range(TESTS)) else self._request

    def free(self) -> None:
        """Give the request back; all ranks must be known to be here."""
        if self._request is not None:
            self._request.Free()
