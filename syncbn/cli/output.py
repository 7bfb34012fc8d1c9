"""Destinations of results: checked before the work, written after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from syncbn.cli.errors import CommandError, UsageError
from syncbn.experiments.report import dumps


def check_directory(directory: Path, option: str = "--output") -> None:
    """Create the directory; raise UsageError if it is not writable."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(f"argument {option}: can't write to {str(directory)!r}: {error.strerror}") from error


def check_json(option: str | None) -> None:
    """Raise UsageError if the file of ``--json FILE`` is not writable."""
    if option not in (None, "-"):
        path = Path(option)
        if path.is_dir():
            raise UsageError(f"argument --json: {option!r} is a directory")
        check_directory(path.parent, "--json")


def show(
    text: str, found: dict[str, Any], json_option: str | None, write: Callable[[], Iterable[Path]] = tuple
) -> None:
    """Print the text (the JSON if ``--json`` has no FILE), then write the files and print their names.

    Raises
    ------
    CommandError
        A file is not writable.
    """
    print(dumps(found) if json_option == "-" else text, end="" if json_option == "-" else "\n", flush=True)
    try:
        files = list(write())
        if json_option not in (None, "-"):
            files.append(Path(json_option))
            files[-1].write_text(dumps(found), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"can't write {error.filename or json_option}: {error.strerror}") from error
    if files and json_option != "-":
        print(f"\nwritten: {', '.join(map(str, files))}")
