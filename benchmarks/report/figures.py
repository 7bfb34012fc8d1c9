"""Figures of a run: memory speed of every shape, and growth of times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import Results

from report.traffic import COPY, gigabytes_per_second
from syncbn.experiments.plotting import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW, add_legend, new_figure, tidy

STYLES = {
    "syncbn": (BLUE, "o"),
    "syncbn float64": (SKY, "D"),
    "torch": (ORANGE, "s"),
    "jax": (GREEN, "^"),
    "onnxruntime": (PINK, "v"),
    "onednn": (YELLOW, "<"),
    "local": (GREY, "x"),
    "1 thread": (BLUE, "o"),
    "2 threads": (YELLOW, "P"),
}
PANELS = (
    ("forward, NCHW", "forward, channels-last", "forward, dense", "evaluation"),
    ("backward, NCHW", "backward, channels-last", "backward, dense"),
)


def draw_speed(path: Path, results: Results, title: str) -> None:
    """Draw GB/s of each shape and candidate, and the speed of a copy of the array."""
    figure = new_figure(16, 9, title)
    grid = figure.subplots(len(PANELS), len(PANELS[0]), sharey=True)
    seen: dict[str, Any] = {}
    for row, names in zip(grid, PANELS, strict=True):
        for axes, group in zip(row, [*names, *[""] * (len(row) - len(names))], strict=True):
            if results.group(group):
                seen |= _draw_bars(axes, group, results)
            else:
                axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("GB/s of memory that must be moved")
    if seen:
        add_legend(figure, seen.values(), seen.keys())
    figure.savefig(path, dpi=110)


def _draw_bars(axes: Any, group: str, results: Results) -> dict[str, Any]:
    cases = results.group(group)
    names = [name for name in cases[0].candidates if name != COPY]
    positions = np.arange(len(cases))
    width = 0.8 / len(names)
    handles = {}
    for number, name in enumerate(names):
        speeds = [gigabytes_per_second(case, name) for case in cases]
        shift = (number - (len(names) - 1) / 2) * width
        handles[name] = axes.bar(positions + shift, speeds, width, color=STYLES[name][0])
    copies = [gigabytes_per_second(case, COPY) for case in cases]
    handles["copy of the array"] = axes.hlines(copies, positions - 0.45, positions + 0.45, colors="black", lw=2)
    axes.set_xticks(positions, [case.name for case in cases], rotation=40, ha="right", fontsize="small")
    axes.set_title(group, fontsize="medium")
    tidy(axes, "y")
    return handles


def draw_growth(path: Path, results: Results, title: str, cores: int) -> None:
    """Draw the curves in one panel per axis, with a line in proportion to the work of a process."""
    groups = results.groups("growth")
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(4 * columns, 4 * rows, title)
    seen: dict[str, Any] = {}
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, group in zip(grid, [*groups, *[""] * (rows * columns - len(groups))], strict=True):
        if group:
            seen |= _draw_curves(axes, group, results, cores)
        else:
            axes.set_visible(False)
    add_legend(figure, seen.values(), seen.keys())
    figure.savefig(path, dpi=110)


def _draw_curves(axes: Any, group: str, results: Results, cores: int) -> dict[str, Any]:
    cases = results.group(group)
    points = np.array([float(case.point or 1) for case in cases])
    handles = {}
    for name in cases[0].candidates:
        color, marker = STYLES[name]
        times = [1e6 * case.seconds(name) for case in cases]
        (handles[name],) = axes.plot(points, times, color=color, marker=marker, ms=5)
    power = 2 if "spatial" in group else 0 if "ranks" in group else 1
    anchor = 0 if power == 0 else -1
    time = 1e6 * cases[anchor].seconds(cases[0].candidates[0])
    (handles["in proportion to the work per process"],) = axes.plot(
        points, time * (points / points[anchor]) ** power, color="black", ls=":", lw=1
    )
    if "ranks" in group and points[-1] > cores:
        handles["more ranks than cores"] = axes.axvspan(cores, points[-1], color="black", alpha=0.06)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _label(axes, group, points)
    return handles


def _label(axes: Any, group: str, points: Sequence[float]) -> None:
    axes.set_xticks(points, [f"{point:g}" for point in points])
    axes.minorticks_off()
    axes.set_title(group.removeprefix("growth, "), fontsize="medium")
    axes.set_ylabel("forward + backward, µs")
    tidy(axes)
