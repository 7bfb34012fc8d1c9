"""Checks of constructors' arguments."""

from __future__ import annotations

import numpy as np


def check_positive(name: str, value: int) -> int:
    """Return ``value``, or raise ValueError when it isn't a positive integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)
