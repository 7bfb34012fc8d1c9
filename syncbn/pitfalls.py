"""References from error texts to the documentation."""

from __future__ import annotations

PAGE = "docs/sharp-bits.md"


def see(entry: str) -> str:
    """Return the end of an error text, which names the entry of the page "Pitfalls" that explains the error."""
    return f" ({PAGE}#{entry})"
