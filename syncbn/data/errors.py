"""What loading data raises."""

from __future__ import annotations


class DataError(ValueError):
    """Data is missing, damaged or of another format: the message says which file, what is wrong and how to get it."""
