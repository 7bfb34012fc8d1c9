"""HTML tables, which notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(rows: Sequence[Sequence[str]], caption: str = "", notes: Sequence[str] = ()) -> str:
    """Return an HTML table, whose first row is the head, with a caption above it and notes below it."""
    head, *body = rows
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    below = "<br>".join(map(escape, notes))
    table = f"<thead>{_row('th', head)}</thead><tbody>{''.join(_row('td', cells) for cells in body)}</tbody>"
    return f"<table>{above}{table}</table>" + f"<p>{below}</p>" * bool(notes)


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
