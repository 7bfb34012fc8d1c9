"""Agreement of the ranks on the graph of a forward: gradients flow through the statistics of all ranks."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from syncbn.comm.errors import SyncMismatchError, mark_raised_by_all


class AgreedProtocol:
    """The protocol of one forward, whose handshake also combines whether ranks need a graph, or cannot have one.

    Parameters
    ----------
    protocol : Protocol
        Protocol of the communicator, which makes all other calls.
    needed, refused : bool
        Whether this rank needs a graph, and whether it cannot have one.
    """

    def __init__(self, protocol: Any, needed: bool, refused: bool) -> None:
        self._protocol = protocol
        self._flags = float(needed), float(refused)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def max_buffer(self, size: int) -> NDArray[Any]:
        """Return the memory of the first ``size`` values of the handshake; the flags follow."""
        self._buffer: NDArray[Any] = self._protocol.max_buffer(size + 2)
        self._buffer[size:] = self._flags
        values: NDArray[Any] = self._buffer[:size]
        return values

    def handshake(self, signature: Any, max_buffer: NDArray[Any] | None = None, forward: int = 0) -> int:
        """Make the handshake of the forward, or another one without values."""
        number: int = self._protocol.handshake(signature, None if max_buffer is None else self._buffer, forward)
        if max_buffer is not None:
            self._needed, self._refused = self._buffer[-2:] > 0
        return number

    def agree(self, signature: str) -> bool:
        """Return whether any rank needs a graph; raise on all ranks if another one cannot have it."""
        if self._needed and self._refused:
            own = "without" if self._flags[1] else "with"
            error = SyncMismatchError(
                f"rank {self.rank} called {signature} {own} gradients, other ranks did not: gradients flow through the "
                "statistics of all ranks, so torch.no_grad() and torch.inference_mode() must be used on all or none"
            )
            mark_raised_by_all(error, self._protocol._identity, self._protocol._calls)
            raise error
        return bool(self._needed)
