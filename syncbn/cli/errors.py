"""Errors that a command reports in one line, without a traceback."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from syncbn.cli import ranks
from syncbn.files import printable


class UsageError(Exception):
    """The arguments are not valid: exit code 2."""


class CommandError(Exception):
    """The command failed: exit code 1."""


def require(command: str, packages: Sequence[str]) -> None:
    """Raise CommandError unless all ``packages`` (of the extra ``cli``) are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"{command} needs {', '.join(missing)}: pip install 'syncbn[cli]'")


def report_error(prog: str, message: str, code: int) -> int:
    """Print one line on stderr, on rank 0 only, and return the exit code; those above 128 are signals, not errors."""
    if ranks.rank() == 0:
        sys.stderr.write(f"{prog}: {'' if code > 128 else 'error: '}{printable(' '.join(message.split()))}\n")
    return code
