"""The errors of collective calls, and the mark of errors that all ranks have raised."""

from __future__ import annotations

from collections.abc import Mapping

_RAISED_BY_ALL = "_syncbn_raised_by_all"
_REPEATED = "_syncbn_repeated"


class SyncError(RuntimeError):
    """A collective call failed: ranks disagree, are lost, or timed out.

    The base class of `SyncMismatchError`, `SyncLostRankError` and `SyncTimeoutError`.
    """


class SyncMismatchError(SyncError):
    """Ranks made different calls, or one of them raised an error instead of making the call.

    It is raised on every rank that did not raise such an error. The communicator remains usable.

    Attributes
    ----------
    errors : mapping of int to str
        Texts of the errors that ranks raised instead of making the call, by rank.
    """

    errors: Mapping[int, str] = {}


class SyncLostRankError(SyncError):
    """A rank of the same node cannot enter the call; the communicator is closed.

    That rank has exited, crashed or closed the communicator, or it is blocked in another communicator, waiting for
    this one.
    """


class SyncTimeoutError(SyncError):
    """A rank waited longer than the ``timeout`` of the communicator, which is closed."""


def mark_raised_by_all(error: Exception, protocol: int, call: int) -> None:
    """Record that every rank of a communicator raises an error in this call, of which this rank raises ``error``."""
    vars(error).setdefault(_RAISED_BY_ALL, {})[protocol] = call


def is_raised_by_all(error: Exception, protocol: int, call: int) -> bool:
    """Return whether ``error`` was marked in the latest call of a communicator.

    The number of the call is compared, since a program may raise one exception object several times.
    """
    return bool(vars(error).get(_RAISED_BY_ALL, {}).get(protocol) == call)


def mark_repeated(error: Exception) -> None:
    """Record that rank 0 raises an error of its own in the same call, whose traceback is enough for all."""
    vars(error)[_REPEATED] = True


def is_repeated(error: BaseException) -> bool:
    """Return whether rank 0 raises an error of its own in the same call."""
    return _REPEATED in vars(error)
