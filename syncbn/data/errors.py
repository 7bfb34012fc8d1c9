"""The error of loading data."""

from __future__ import annotations


class DataError(ValueError):
    """Data is missing, damaged or of another format; the message has the file, the problem and how to get the data."""
