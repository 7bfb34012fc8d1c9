"""Errors that a command reports in one line, without a traceback."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


class UsageError(Exception):
    """The arguments are not valid: exit code 2."""


class CommandError(Exception):
    """The command failed: exit code 1."""


def require(command: str, packages: Sequence[str]) -> None:
    """Raise CommandError unless all ``packages`` (of the extra ``cli``) are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"{command} needs {', '.join(missing)}: pip install 'syncbn[cli]'")
