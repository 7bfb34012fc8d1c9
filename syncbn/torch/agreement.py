"""Agreement of the ranks on the graph of a forward, through whose statistics gradients flow, and on the parameters."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm.errors import SyncMismatchError, mark_raised_by_all
from syncbn.pitfalls import see

ADVICE = (
    "call syncbn.torch.broadcast_parameters before the training, and average gradients in each step, by "
    f"DistributedDataParallel or syncbn.torch.average_gradients{see('parameters-that-differ')}"
)
"""Advice in errors and warnings about parameters that differ between ranks."""

_warned: set[tuple[int, str]] = set()
"""The communicators and layers whose parameters differ between ranks, of which rank 0 has warned."""


def checksums(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return the CRC-32 of all arrays and its negative. Their maxima over ranks add up to 0 if all ranks are equal."""
    value = 0
    for array in arrays:
        value = zlib.crc32(array.tobytes(), value)
    return float(value), float(-value)


class AgreedProtocol:
    """The protocol of one forward, whose handshake also combines whether ranks need a graph, or cannot have one.

    It compares the parameters too: layers that PyTorch's optimizers change on each rank may silently drift apart.

    Parameters
    ----------
    protocol : Protocol
        Protocol of the communicator, which makes all other calls.
    needed, refused : bool
        Whether this rank needs a graph, and whether it cannot have one.
    parameters : sequence of ndarray or None
        γ and β of this rank, as far as they are to be compared.
    """

    def __init__(self, protocol: Any, needed: bool, refused: bool, parameters: Sequence[NDArray[Any] | None]) -> None:
        self._protocol = protocol
        self._parameters = [each for each in parameters if each is not None]
        self._flags = float(needed), float(refused), *checksums(self._parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def max_buffer(self, size: int) -> NDArray[Any]:
        """Return the memory of the first ``size`` values of the handshake; the flags follow."""
        self._buffer: NDArray[Any] = self._protocol.max_buffer(size + len(self._flags))
        self._buffer[size:] = self._flags
        values: NDArray[Any] = self._buffer[:size]
        return values

    def handshake(self, signature: Any, max_buffer: NDArray[Any] | None = None, forward: int = 0) -> int:
        """Make the handshake of the forward, or another one without values."""
        number: int = self._protocol.handshake(signature, None if max_buffer is None else self._buffer, forward)
        if max_buffer is not None:
            needed, refused, largest, negated = self._buffer[-len(self._flags) :].tolist()
            self._needed, self._refused, self._differ = needed > 0, refused > 0, largest + negated > 0
        return number

    def agree(self, signature: str) -> bool:
        """Return whether any rank needs a graph; raise on all ranks if another one cannot have it.

        Rank 0 warns once of parameters that differ.
        """
        if self._needed and self._refused:
            own = "without" if self._flags[1] else "with"
            error = SyncMismatchError(
                f"rank {self.rank} called {signature} {own} gradients, other ranks did not: gradients flow through the "
                "statistics of all ranks, so torch.no_grad() and torch.inference_mode() must be used on all or none"
            )
            mark_raised_by_all(error, self._protocol._identity, self._protocol._calls)
            raise error
        layer = self._protocol._identity, signature
        if self._differ and self.rank == 0 and layer not in _warned and self._is_finite():
            _warned.add(layer)
            warnings.warn(
                f"weight or bias of {signature} differs between ranks, so each trains another model: {ADVICE}",
                RuntimeWarning,
                stacklevel=2,
            )
        return bool(self._needed)

    def _is_finite(self) -> bool:
        """Return whether training has not diverged, after which NaN of equal models have different bits."""
        return all(bool(np.isfinite(each).all()) for each in self._parameters)
