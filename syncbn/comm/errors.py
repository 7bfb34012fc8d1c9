"""The errors of collective calls, and which errors all ranks have raised."""

from __future__ import annotations

from collections.abc import Mapping

_RAISED_BY_ALL = "_syncbn_raised_by_all"


class SyncError(RuntimeError):
    """A collective call failed: ranks disagree, are lost, or timed out. The base class of the other three errors."""


class SyncMismatchError(SyncError):
    """The ranks of one collective call called different things, or one of them raised an error instead.

    Raised on every rank of the communicator, which remains usable.

    Attributes
    ----------
    errors : mapping of int to str
        The texts of the errors that ranks raised instead of making the call, by rank.
    """

    errors: Mapping[int, str] = {}


class SyncLostRankError(SyncError):
    """A rank that this one waits for can't enter the call; the communicator is closed.

    That rank has exited, crashed or closed the communicator, or it is blocked in another communicator, waiting for
    this one. Detected for ranks of the same node.
    """


class SyncTimeoutError(SyncError):
    """A rank waited longer than the communicator's ``timeout``; the communicator is closed."""


def mark_raised_by_all(error: Exception, protocol: int, call: int) -> None:
    """Record that all ranks of a communicator raise an error, each one of its own, in this call."""
    vars(error).setdefault(_RAISED_BY_ALL, {})[protocol] = call


def is_raised_by_all(error: Exception, protocol: int, call: int) -> bool:
    """Return whether all ranks of a communicator raised an error in its latest call.

    The number of the call is compared, since a program may raise one exception again and again.
    """
    return bool(vars(error).get(_RAISED_BY_ALL, {}).get(protocol) == call)
