"""Destinations of results: checked before the work, written after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncbn.cli.errors import CommandError, UsageError
from syncbn.experiments.report import dumps, write_text
from syncbn.files import is_directory, printable

Writer = Callable[[Path], object]
"""Function that writes a file."""


def check_directory(path: Path, option: str = "--output") -> None:
    """Create the directory; raise UsageError if it is not writable."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise UsageError(f"argument {option}: {error.filename!r} is a file, expected a directory") from error
    except OSError as error:
        raise UsageError(f"argument {option}: can't write to {str(path)!r}: {error.strerror}") from error


def check_json(option: str | None) -> None:
    """Raise UsageError if the file of ``--json FILE`` is not writable."""
    if option in (None, "-"):
        return
    path = Path(option)
    try:
        found = is_directory(path)
    except OSError as error:
        raise UsageError(f"argument --json: can't write to {option!r}: {error.strerror}") from error
    if found:
        raise UsageError(f"argument --json: {option!r} is a directory")
    check_directory(path.parent, "--json")


def show(text: str, found: dict[str, Any], json_option: str | None, files: Mapping[Path, Writer] | None = None) -> None:
    """Write the files, then print the text (the JSON if ``--json`` has no FILE) and the names of the files.

    All that can be written and printed is, whatever fails.

    Raises
    ------
    CommandError
        A file could not be written.
    """
    writers = dict(files or {})
    if json_option not in (None, "-"):
        writers[Path(json_option)] = lambda path: write_text(path, dumps(found))
    problems = {path: problem for path, write in writers.items() if (problem := _problem(write, path))}
    if json_option == "-":
        print(dumps(found), end="", flush=True)
    else:
        print("\n".join(map(printable, text.split("\n"))), flush=True)
        if written := [printable(str(path)) for path in writers if path not in problems]:
            print(f"\nwritten: {', '.join(written)}", flush=True)
    if problems:
        raise CommandError("; ".join(f"can't write {path}: {problem}" for path, problem in problems.items()))


def _problem(write: Writer, path: Path) -> str:
    """Write a file and return what went wrong, or ""."""
    try:
        write(path)
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # of matplotlib, perhaps; it must not hide the results
        return f"{type(error).__name__}: {error}"
    return ""
