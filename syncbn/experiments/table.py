"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.results import Cell
from syncbn.experiments.statistics import CONFIDENCE, Interval

HEADER = ("batch/rank", "normalizer", "test error %", "test loss", "seconds", "sent/step")
_LEFT_ALIGNED = 1


def table(cells: Sequence[Cell]) -> str:
    """Return the table with one line per normalizer and batch size, without a final newline."""
    rows = [HEADER, *(_row(cell, cells[position - 1] if position else None) for position, cell in enumerate(cells))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [_line(row, widths) for row in rows]
    rule = "─" * len(lines[0])
    out = [lines[0]]
    for cell_row, line in zip(rows[1:], lines[1:], strict=True):
        if cell_row[0]:  # the first line of a batch size
            out.append(rule)
        out.append(line)
    seeds = max((cell.runs for cell in cells), default=0)
    note = f"± {CONFIDENCE:.0%} interval over {seeds} seeds" if seeds > 1 else "one seed: no interval (n/a)"
    return "\n".join([*out, rule, f"{note}; sent/step: bytes that one rank passes to collective calls"])


def percent(value: Interval | None) -> str:
    """Return a fraction and its interval in %, such as ``17.8 ± 0.6``."""
    return _number(value, 100.0, 1)


def size(count: float) -> str:
    """Return a number of bytes with its unit, such as ``215 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _row(cell: Cell, before: Cell | None) -> tuple[str, ...]:
    new_batch = before is None or before.batch != cell.batch
    error = percent(cell.test_error)
    loss = _number(cell.test_loss, 1.0, 3)
    if cell.diverged:
        error, loss = f"diverged ({cell.diverged} of {cell.runs})", "–"
    return (
        str(cell.batch) if new_batch else "",
        NORMALIZERS[cell.norm].label,
        error,
        loss,
        f"{cell.seconds:.2f}",
        size(cell.bytes_per_step),
    )


def _number(value: Interval | None, factor: float, digits: int) -> str:
    if value is None:
        return "–"
    mean = f"{factor * value.mean:.{digits}f}"
    return f"{mean} ± " + ("n/a" if value.half_width is None else f"{factor * value.half_width:.{digits}f}")


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        text.ljust(width) if column == _LEFT_ALIGNED else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells)
