"""The only door to compiled code: it checks, converts layouts and dtypes, allocates, then calls."""

from __future__ import annotations
