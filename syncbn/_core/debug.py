"""Detection of arrays that the caller changes between a forward and its backward, with SYNCBN_DEBUG=1."""

from __future__ import annotations

import hashlib

from syncbn._core.environment import is_set
from syncbn.pitfalls import see
from syncbn.typing import FloatArray

ENABLED = is_set("SYNCBN_DEBUG")
"""True if checksums are kept. It is read once, so that they cost nothing otherwise."""


class Checksums:
    """Checksums of arrays at the time of the forward; None for an array that there is not."""

    def __init__(self, **arrays: FloatArray | None) -> None:
        self._arrays = {name: array for name, array in arrays.items() if array is not None}
        self._before = {name: _checksum(array) for name, array in self._arrays.items()}

    def check(self) -> None:
        """Raise RuntimeError if an array has changed."""
        for name, array in self._arrays.items():
            if _checksum(array) != self._before[name]:
                raise RuntimeError(
                    f"{name} has changed since the forward: keep it as it is until the backward"
                    f"{see('arrays-that-must-not-change')}"
                )


def _checksum(array: FloatArray) -> bytes:
    return hashlib.blake2b(array.tobytes()).digest()
