"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.results import Cell
from syncbn.experiments.statistics import CONFIDENCE, Interval

_LEFT_ALIGNED = 1


def table(cells: Sequence[Cell]) -> str:
    """Return the table with one line per normalizer and batch size, without a final newline.

    With several learning rates, each has a column of errors, and there is none of losses.
    """
    rates = sorted({cell.lr for cell in cells})
    results = [f"error % at {lr:g}" for lr in rates] if len(rates) > 1 else ["test error %", "test loss"]
    lines: dict[tuple[int, str], dict[float, Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.batch):  # stable: normalizers keep their order
        lines.setdefault((cell.batch, cell.norm), {})[cell.lr] = cell
    rows = [("batch/rank", "normalizer", *results, "seconds", "sent/step")]
    rows += [_row(found, rates) for found in lines.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = [_line(row, widths) for row in rows]
    rule = "─" * len(texts[0])
    out = [texts[0]]
    before = None
    for (batch, _), text in zip(lines, texts[1:], strict=True):
        if batch != before:
            out.append(rule)
        else:  # the batch size is in its first line only
            text = " " * widths[0] + text[widths[0] :]
        out.append(text)
        before = batch
    seeds = max((cell.runs for cell in cells), default=0)
    note = f"± {CONFIDENCE:.0%} interval over {seeds} seeds" if seeds > 1 else "one seed: no interval (n/a)"
    note += "; seconds: mean over learning rates" if len(rates) > 1 else ""
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


def _row(cells: Mapping[float, Cell], rates: Sequence[float]) -> tuple[str, ...]:
    """Return the line of one normalizer and batch size, whose cells differ in the learning rate."""
    first = next(iter(cells.values()))
    results = [_error(cells[lr]) if lr in cells else "" for lr in rates]
    if len(rates) == 1:
        results.append("–" if first.diverged else _number(first.test_loss, 1.0, 3))
    return (
        str(first.batch),
        NORMALIZERS[first.norm].label,
        *results,
        f"{sum(cell.seconds for cell in cells.values()) / len(cells):.2f}",
        size(first.bytes_per_step),
    )


def _error(cell: Cell) -> str:
    return f"diverged ({cell.diverged} of {cell.runs})" if cell.diverged else percent(cell.test_error)


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
