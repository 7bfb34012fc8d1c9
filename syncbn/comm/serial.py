"""The communicator of one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm.communicator import Communicator
from syncbn.comm.signature import CollectiveSignature, Signatures
from syncbn.comm.transport import MPI_TYPES, Types
from syncbn.typing import Float64Array


class SerialProtocol(Signatures):
    """The protocol of one process. It sends nothing and is thread-safe, since its only state is an atomic counter."""

    rank: int = 0
    size: int = 1
    bytes_sent: int = 0
    closed: str = ""
    unfinished: bool = False
    timeout: float | None = None
    types: Types = MPI_TYPES

    def __init__(self) -> None:
        self._next_number: Callable[[], int] = count(1).__next__

    def max_buffer(self, size: int) -> Float64Array:
        """Return the buffer of a handshake."""
        return np.empty(size)

    def sum_buffer(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the buffer of a sum."""
        return np.empty(size, dtype)

    def handshake(
        self,
        signature: CollectiveSignature,  # noqa: ARG002
        max_buffer: Float64Array | None = None,  # noqa: ARG002
        forward: int = 0,  # noqa: ARG002
    ) -> int:
        """Return the sequence number of this call."""
        return self._next_number()

    def sum(self, buffer: NDArray[Any]) -> None:
        """Do nothing: the sum over one rank is its buffer."""

    def collective_errors(
        self,
        signature: CollectiveSignature,  # noqa: ARG002
        handshake: bool = False,  # noqa: ARG002
    ) -> nullcontext[None]:
        """Return a context that does nothing: there are no other ranks."""
        return _NO_CONTEXT

    def allreduce(self, array: NDArray[Any], op: str) -> None:
        """Do nothing: the result over one rank is its array."""

    def broadcast(self, array: NDArray[Any], root: int) -> None:
        """Do nothing: the array is that of the root."""

    def allgather(self, content: bytes) -> list[bytes]:
        """Return the bytes of the one rank."""
        return [content]

    def split(self, group_size: int) -> SerialProtocol:  # noqa: ARG002
        """Return another protocol of this process."""
        return SerialProtocol()

    def free(self) -> None:
        """Do nothing."""

    def close(self, error: type[BaseException]) -> None:
        """Do nothing."""


_NO_CONTEXT = nullcontext()


class SerialComm(Communicator):
    """The communicator of one process, which sends nothing and needs no MPI.

    See Also
    --------
    syncbn.MPIComm : The ranks of MPI.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import SerialComm, SyncBatchNorm
    >>> comm = SerialComm()
    >>> comm.rank, comm.size
    (0, 1)
    >>> layer = SyncBatchNorm(3, comm=comm)  # without MPI, such as in a test
    """

    _distributed = None

    def __init__(self) -> None:
        super().__init__(SerialProtocol())

    def free(self) -> None:
        """Do nothing: this communicator has no resources, and remains usable."""

    def __deepcopy__(self, memo: object) -> SerialComm:  # type: ignore[override]
        return SerialComm()

    def __reduce__(self) -> tuple[type[SerialComm], tuple[()]]:  # type: ignore[override]
        return SerialComm, ()


SERIAL = SerialComm()
"""The communicator for ``comm=None`` in `syncbn.functional`."""
