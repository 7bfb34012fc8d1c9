"""What a synchronized call raises when the ranks do not fit together."""

from __future__ import annotations


class SyncMismatchError(RuntimeError):
    """The ranks of one collective call did not call the same thing, or one had bad input.

    Raised on every rank of the communicator, which is usable again afterwards.
    """


class SyncTimeoutError(RuntimeError):
    """A rank waited longer than the communicator's ``timeout``; the communicator is closed."""
