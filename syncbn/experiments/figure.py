"""The figure of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.plotting import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    add_legend,
    new_figure,
    save_png,
    tidy,
)
from syncbn.experiments.results import Cell, Run, summarize
from syncbn.experiments.statistics import CONFIDENCE, interval

STYLES = {
    "none": (GREY, "x"),
    "bn": (ORANGE, "s"),
    "syncbn": (BLUE, "o"),
    "ghost": (BLUE, "<"),
    "brn": (ORANGE, ">"),
    "gn": (GREEN, "^"),
    "ln": (YELLOW, "D"),
    "in": (PINK, "v"),
    "wn": (SKY, "P"),
    "ws": (GREEN, "p"),
    "frn": (PINK, "X"),
    "rms": (BLACK, "*"),
}
DODGE = 0.035
"""Horizontal distance of neighbouring error bars in octaves."""


def save_figure(path: Path, runs: Sequence[Run], title: str) -> None:
    """Draw test error by batch per rank for each learning rate, and learning curves of the smallest batch, as PNG.

    The curves, on the right, are those of the largest learning rate.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    cells = summarize(runs)
    rates = sorted({cell.lr for cell in cells})
    figure = new_figure(2 + 4.5 * (len(rates) + 1), 5, title)
    *panels, right = figure.subplots(1, len(rates) + 1, sharey=True)
    for axes, lr in zip(panels, rates, strict=True):
        _draw_errors(axes, [cell for cell in cells if cell.lr == lr], f" at {lr:g}" if rates[1:] else "")
    _draw_curves(right, [run for run in runs if run.lr == rates[-1]], f" at {rates[-1]:g}" if rates[1:] else "")
    seeds = max(cell.runs for cell in cells)
    note = f"mean and {CONFIDENCE:.0%} interval over {seeds} seeds" if seeds > 1 else "one seed"
    panels[0].set_ylabel(f"test error (%), {note}")
    lowest = min((error for run in runs for error in run.test_errors if error > 0), default=0.01)
    panels[0].set_ylim(75 * lowest, 101)
    handles, labels = panels[0].get_legend_handles_labels()
    handles = [handle[0] for handle in handles]  # the line and marker, without the error bar
    add_legend(figure, handles, labels)
    save_png(figure, path, 150)


def _draw_errors(axes: Any, cells: Sequence[Cell], setting: str) -> None:
    norms = list(dict.fromkeys(cell.norm for cell in cells))
    batches = sorted({cell.batch for cell in cells})
    for position, norm in enumerate(norms):
        shift = 2.0 ** (DODGE * (position - (len(norms) - 1) / 2))
        points = [
            (cell.batch * shift, 100 * cell.test_error.mean, 100 * (cell.test_error.half_width or 0.0))
            for cell in cells
            if cell.norm == norm and cell.test_error is not None
        ]
        x, y, half = np.array(points).reshape(-1, 3).T
        color, marker = STYLES[norm]
        axes.errorbar(x, y, half, color=color, marker=marker, capsize=3, label=NORMALIZERS[norm].label)
        lost = [cell.batch * shift for cell in cells if cell.norm == norm and cell.test_error is None]
        axes.plot(
            lost, [0.97] * len(lost), color=color, marker="$∞$", ls="", ms=11, transform=axes.get_xaxis_transform()
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel("batch per rank (samples)")
    note = " (∞: diverged)" if any(cell.diverged for cell in cells) else ""
    axes.set_title(f"after training{setting}{note}", fontsize="medium")
    _finish(axes)


def _draw_curves(axes: Any, runs: Sequence[Run], setting: str) -> None:
    smallest = min(run.batch for run in runs)
    runs = [run for run in runs if run.batch == smallest]
    for norm in dict.fromkeys(run.norm for run in runs):
        group = [run for run in runs if run.norm == norm]
        length = min(len(run.epochs) for run in group)  # a run that diverged is shorter
        errors = [interval([100 * run.test_errors[point] for run in group]) for point in range(length)]
        mean = np.array([error.mean for error in errors])
        half = np.array([error.half_width or 0.0 for error in errors])
        color, marker = STYLES[norm]
        epochs = group[0].epochs[:length]
        axes.plot(epochs, mean, color=color, marker=marker, ms=4)
        axes.fill_between(epochs, np.maximum(mean - half, 0.1), mean + half, color=color, alpha=0.15, lw=0)
    axes.set_xlabel("training (epochs)")
    axes.set_title(f"while training with {smallest} per rank{setting}", fontsize="medium")
    axes.set_xlim(left=0)
    _finish(axes)


def _finish(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    tidy(axes)
