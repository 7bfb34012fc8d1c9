"""The error of an environment variable."""

from __future__ import annotations


class SettingError(ValueError):
    """An environment variable has a value that cannot be used; the message has both, and what is expected."""
