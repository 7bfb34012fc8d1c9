"""Errors of collective calls, and marks on errors that are raised on all ranks."""

from __future__ import annotations

from collections.abc import Mapping

_RAISED_BY_ALL = "_syncbn_raised_by_all"
_REPEATED = "_syncbn_repeated"


class SyncError(RuntimeError):
    """A collective call failed: ranks disagree, are lost, or timed out.

    The base class of `SyncMismatchError`, `SyncLostRankError` and `SyncTimeoutError`.

    See Also
    --------
    syncbn.SyncMismatchError : Ranks disagree.
    syncbn.SyncLostRankError : A rank cannot enter the call.
    syncbn.SyncTimeoutError : A rank is late.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import SyncBatchNorm, SyncError
    >>> layer = SyncBatchNorm(3)
    >>> try:
    ...     y, backward = layer(np.ones((2, 3), np.float32))
    ... except SyncError as error:
    ...     print("not my mistake:", error)
    """


class SyncMismatchError(SyncError):
    """Ranks made different calls, or one of them raised an error instead of making the call.

    It is raised on every rank that did not raise such an error. The communicator remains usable.

    Attributes
    ----------
    errors : mapping of int to str
        Texts of the errors that ranks raised instead of making the call, by rank.

    See Also
    --------
    syncbn.SyncLostRankError : A rank cannot enter the call.
    syncbn.SyncTimeoutError : A rank is late.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import SyncBatchNorm, SyncMismatchError
    >>> layer = SyncBatchNorm(3)
    >>> try:
    ...     y, backward = layer(np.ones((2, 3), np.float32))
    ... except SyncMismatchError as error:  # if another rank had an array of 4 channels
    ...     for rank, text in error.errors.items():
    ...         print(f"rank {rank}: {text}")
    """

    errors: Mapping[int, str] = {}


class SyncLostRankError(SyncError):
    """A rank of the same node cannot enter the call; the communicator is closed.

    That rank has exited, crashed or closed the communicator, or it is blocked in another communicator, waiting for
    this one.

    See Also
    --------
    syncbn.SyncMismatchError : Ranks disagree.
    syncbn.SyncTimeoutError : A rank is late.

    Examples
    --------
    >>> from syncbn import SyncError, SyncLostRankError
    >>> issubclass(SyncLostRankError, SyncError)
    True
    """


class SyncTimeoutError(SyncError):
    """A rank waited longer than the ``timeout`` of the communicator, which is closed.

    See Also
    --------
    syncbn.SyncLostRankError : A rank cannot enter the call.
    syncbn.MPIComm : Its argument ``timeout``.

    Examples
    --------
    >>> from syncbn import MPIComm, SyncBatchNorm, SyncTimeoutError
    >>> layer = SyncBatchNorm(3, comm=MPIComm(timeout=600))
    >>> layer.comm.timeout
    600
    """


def mark_raised_by_all(error: Exception, protocol: int, call: int) -> None:
    """Record that all ranks of a communicator raise an error in this call; ``error`` is that of this rank."""
    vars(error).setdefault(_RAISED_BY_ALL, {})[protocol] = call


def is_raised_by_all(error: Exception, protocol: int, call: int) -> bool:
    """Return whether `mark_raised_by_all` marked ``error``, or its cause, in this call of a communicator.

    The number of the call is compared, since a program may raise one exception object several times.
    """
    marked = (found for found in (error, error.__cause__) if found is not None)
    return any(vars(found).get(_RAISED_BY_ALL, {}).get(protocol) == call for found in marked)


def mark_repeated(error: Exception) -> None:
    """Record that rank 0 raises its own error in the same call, so that only rank 0 prints a traceback."""
    vars(error)[_REPEATED] = True


def is_repeated(error: BaseException) -> bool:
    """Return whether `mark_repeated` marked ``error``."""
    return _REPEATED in vars(error)
