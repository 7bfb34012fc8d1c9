"""Communicators of one process and of the ranks of MPI.

Files, from the public interface downwards::

    serial, mpi, cache   SerialComm, MPIComm, and one MPIComm for each mpi4py communicator
    collective           the decorator of collective functions, whose errors all ranks raise
    communicator         the public methods: check the arguments, then make one call of the protocol
    protocol             a call: the handshake (signature), the messages, and the treatment of errors (errors)
    liveness             failure detection: the state of the ranks for which a rank waits
    transport            the operations that the protocol needs of a message-passing library; mpi_transport is MPI

The handshake, the sum and the wait are compiled (ext/protocol.pyx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

from syncbn.comm.cache import world, wrap
from syncbn.comm.collective import collective
from syncbn.comm.communicator import Communicator
from syncbn.comm.errors import SyncError, SyncLostRankError, SyncMismatchError, SyncTimeoutError
from syncbn.comm.mpi import MPIComm
from syncbn.comm.serial import SERIAL, SerialComm
from syncbn.comm.signature import CollectiveSignature
from syncbn.typing import FloatArray

if TYPE_CHECKING:
    from mpi4py import MPI

CommLike = Union[Communicator, "MPI.Intracomm", None]
"""None (this process alone), a syncbn communicator or an mpi4py communicator."""


def as_communicator(comm: CommLike) -> Communicator:
    """Return the syncbn communicator for ``comm``; None is this process alone.

    Collective at the first call with an mpi4py communicator.

    See Also
    --------
    syncbn.MPIComm : The ranks of MPI.
    syncbn.SerialComm : One process.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from syncbn.comm import as_communicator
    >>> as_communicator(None)  # this process alone
    SerialComm(rank 0 of 1)
    >>> as_communicator(MPI.COMM_WORLD) is as_communicator(MPI.COMM_WORLD)
    True
    """
    if comm is None:
        return SERIAL
    if isinstance(comm, Communicator):
        return comm
    return wrap(comm)


@collective(lambda passed: as_communicator(passed.get("comm")))
def exact_sum(array: FloatArray, comm: CommLike = None, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the sum over ``axis`` and over all ranks: the exact value, rounded once.

    Collective. The result has the same bits for every number of ranks, every distribution of the values over ranks and
    every order of the values. It is the number of the dtype of ``array`` that is nearest to the exact sum (ties to
    even), like `math.fsum` of all values.

    Parameters
    ----------
    array : ndarray of float16, float32 or float64
        Values of this rank, with any strides and byte order, or a NumPy scalar. All ranks must pass the same dtype. For
        a sum of float32 values in float64, pass ``array.astype(numpy.float64)``.
    comm : None, syncbn communicator or mpi4py.MPI.Intracomm
        Ranks that take part. None means this process only.
    axis : int, tuple of int, or None
        Axes over which values are summed, besides ranks. None means all: ranks may pass arrays of different shapes, or
        empty ones. Otherwise the remaining axes must have the same sizes on all ranks; ``axis=()`` adds the arrays of
        the ranks element by element.

    Returns
    -------
    ndarray or scalar
        Sum, of the dtype of ``array``, on every rank; a NumPy scalar if no axes remain. The sum of no values is 0.
        A sum beyond the largest number of the dtype is infinite. As in floating point, NaN, or infinities of both
        signs, give NaN, and other infinities give themselves, wherever they are.

    Raises
    ------
    ValueError, TypeError
        Invalid input of this rank.
    SyncMismatchError
        Another rank had invalid input, or made a different call.
    SyncLostRankError, SyncTimeoutError
        Another rank did not enter the call.

    See Also
    --------
    syncbn.comm.Communicator : Its method ``exact_sum``.
    syncbn.functional.batch_norm : Exact sums of a layer.

    Notes
    -----
    Ranks first exchange the range of the exponents, by MAX, and then the sums as integers of as many 48-bit limbs as
    that range needs, by SUM, which has no rounding. So an element of the result takes 32 bytes of a message if the
    magnitudes of all values differ by less than a factor of 2⁴⁸, and 8 bytes more for each further factor of 2⁴⁸.

    References
    ----------
    Hallberg & Adcroft 2014, An order-invariant real-to-integer conversion sum, Parallel Computing 40; Neal 2015, Fast
    exact summation using small and large superaccumulators, arXiv:1505.05571.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import exact_sum
    >>> exact_sum(np.array([1e100, 1.0, -1e100]))
    np.float64(1.0)
    >>> exact_sum(np.full((2, 3), 0.1, np.float32), axis=0)
    array([0.2, 0.2, 0.2], dtype=float32)
    """
    return as_communicator(comm).exact_sum(array, axis=axis)


__all__ = [
    "SERIAL",
    "CollectiveSignature",
    "CommLike",
    "Communicator",
    "MPIComm",
    "SerialComm",
    "SyncError",
    "SyncLostRankError",
    "SyncMismatchError",
    "SyncTimeoutError",
    "as_communicator",
    "exact_sum",
    "world",
]
