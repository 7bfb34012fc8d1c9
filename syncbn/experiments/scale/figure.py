"""The figure of the predictions."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from syncbn.experiments.plotting import BLACK, BLUE, GREEN, ORANGE, add_legend, new_figure, save_png, tidy
from syncbn.experiments.scale.algorithms import ALGORITHMS
from syncbn.experiments.scale.report import ScaleReport

STYLES = {
    "recursive doubling": (BLUE, "o"),
    "Rabenseifner": (GREEN, "s"),
    "ring": (ORANGE, "^"),
    "as MPICH": (BLACK, "x"),
}
LINES = ("-", "--", ":", "-.")


def save_figure(path: Path, report: ScaleReport) -> None:
    """Draw milliseconds (left) and, if known, the share of a step (right) by ranks as PNG.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    panels = 1 if report.computing is None else 2
    figure = new_figure(5.5 * panels, 5, f"{report.config.title}\n{report.origin}", fontsize="medium")
    first, *rest = figure.subplots(1, panels, squeeze=False)[0]
    _draw(first, report, "step_milliseconds", 1.0)
    first.set_ylabel("synchronization (ms per step)")
    first.set_yscale("log")
    for axes in rest:
        _draw(axes, report, "share", 100.0)
        axes.set_ylabel("share of a training step (%)")
        axes.set_yscale("log")
        axes.set_ylim(top=100)
        axes.yaxis.set_major_formatter("{x:g}")
    handles, labels = first.get_legend_handles_labels()
    add_legend(figure, handles, labels, 3)
    save_png(figure, path, 110)


def _draw(axes: Any, report: ScaleReport, attribute: str, factor: float) -> None:
    predictions = report.predictions
    for line, group in zip(cycle(LINES), (None, *report.config.groups), strict=False):
        for name in ALGORITHMS:
            color, marker = STYLES[name]
            rows = [p for p in predictions if (p.group_size, p.algorithm) == (group, name) and p.ranks > 1]
            label = name + ("" if group is None else f", groups of {group}")
            x, y = [p.ranks for p in rows], [factor * getattr(p, attribute) for p in rows]
            axes.plot(x, y, color=color, marker=marker, ls=line, ms=4, lw=1.2, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("ranks")
    tidy(axes)
