"""What a collective call raises when the ranks do not come together."""

from __future__ import annotations


class SyncError(RuntimeError):
    """The ranks of a communicator did not come together in one call."""


class SyncMismatchError(SyncError):
    """The ranks of one collective call did not call the same thing, or one had bad input.

    Raised on every rank of the communicator, which is usable again afterwards.
    """


class SyncLostRankError(SyncError):
    """A rank that this one waits for can't come; the communicator is closed.

    It has ended, died or closed the communicator, or it waits itself, in another communicator, for
    this one. Seen for ranks of the same node.
    """


class SyncTimeoutError(SyncError):
    """A rank waited longer than the communicator's ``timeout``; the communicator is closed."""
