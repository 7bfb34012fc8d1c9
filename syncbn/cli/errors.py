"""What a command says when it can't do its work: one line, without a traceback."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


class UsageError(Exception):
    """The arguments make no sense here: exit code 2."""


class CommandError(Exception):
    """The work could not be done: exit code 1."""


def require(command: str, packages: Sequence[str]) -> None:
    """Raise CommandError unless all ``packages`` are installed; they are those of the extra ``cli``."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"{command} needs {', '.join(missing)}: pip install 'syncbn[cli]'")
