"""Environment variables that are 1 or 0, and the error of a variable."""

from __future__ import annotations

import os


class SettingError(ValueError):
    """An environment variable has a value that cannot be used; the message has both, and what is expected."""


def is_set(name: str) -> bool:
    """Return whether an environment variable is 1; 0, "" and no value mean False.

    Raises
    ------
    SettingError
        It has another value.
    """
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SettingError(f"{name} must be 1 or 0, got {value!r}")
    return value == "1"
