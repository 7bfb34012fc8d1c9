"""Charts of results: their data, and how they are drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

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
    save_svg,
    tidy,
)
from syncbn.experiments.statistics import CONFIDENCE, interval

STYLES = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (BLACK, "x", ":"),
    (PINK, "v", "-"),
    (YELLOW, "D", "--"),
    (SKY, "P", "-."),
    (GREY, "*", ":"),
)
"""Colour, marker and line of each series: markers and lines tell them apart without colours."""

WIDTH, HEIGHT = 4.5, 3.6
"""Size in inches, for which the text is readable on a phone."""

PLAIN_DECADES = 1e4
"""Range of a logarithmic axis up to which its numbers are written out."""

LONG_LABEL = 12
"""Number of characters of a label from which it needs more space."""

Scale = Literal["linear", "log", "category"]


@dataclass(frozen=True)
class Point:
    """A point with its interval.

    Attributes
    ----------
    x : float or str
    y : float or None
        None is drawn as ∞ at the top: no run gave a finite value.
    half : float or None
        Half the width of the interval.
    note : str
        Further text that is shown under the pointer.
    """

    x: float | str
    y: float | None
    half: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """A chart with one panel.

    Attributes
    ----------
    name : str
        Name of the files, without the claim's name.
    title, x_label, y_label : str
        Labels have the units.
    series : sequence of Series
    x_scale : {"linear", "log", "category"}
    y_scale : {"linear", "log"}
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_scale: Scale = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    note: str = field(default=f"bars: {CONFIDENCE:.0%} intervals over the seeds")

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def point(x: float | str, values: Sequence[float | None], factor: float = 1.0, note: str = "") -> Point:
    """Return the point of several values with equal x: their mean and its interval, times a factor.

    It is a lost one if a value is None, because the mean of the others would be too good.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Point(x, None, None, note)
    found = interval(known)
    half = None if found.half_width is None else factor * found.half_width
    return Point(x, factor * found.mean, half, note)


def save_chart(path: Path, chart: Chart) -> None:
    """Draw a chart and write ``path`` as PNG or as SVG, according to its suffix.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    figure, titles = _draw(chart)
    if path.suffix == ".svg":
        save_svg(figure, path, titles)
    else:
        save_png(figure, path, 150)


def _draw(chart: Chart) -> tuple[Any, dict[str, list[str]]]:
    """Return the figure, and the texts of the markers by the id of their series."""
    figure = new_figure(WIDTH, HEIGHT + 0.2 * ((len(chart.series) - 1) // 3), chart.title, fontsize=10)
    axes = figure.subplots()
    places = list(dict.fromkeys(point.x for series in chart.series for point in series.points))
    titles = {}
    for number, series in enumerate(chart.series):
        color, marker, line = STYLES[number % len(STYLES)]
        shift = (number - (len(chart.series) - 1) / 2) * 0.06 if chart.x_scale == "category" else 0.0
        line = "" if chart.x_scale == "category" else line
        points = [point for point in series.points if point.y is not None]
        x = [_place(chart, places, point) + shift for point in points]
        y = [point.y for point in points]
        style = {"color": color, "marker": marker, "ls": line, "lw": 1.3, "ms": 5, "label": series.label}
        (drawn,) = axes.plot(x, y, clip_on=False, zorder=3, **style)
        drawn.set_gid(f"series-{number}")
        titles[f"series-{number}"] = [_title(chart, series, point) for point in points]
        half = [point.half or 0.0 for point in points]
        axes.errorbar(x, y, half, color=color, ls="", capsize=2.5, lw=1, zorder=2)
        lost = [_place(chart, places, point) + shift for point in series.points if point.y is None]
        transform = axes.get_xaxis_transform()
        axes.plot(lost, [0.97] * len(lost), color=color, marker="$∞$", ls="", ms=9, transform=transform)
    _scale(axes, chart, places)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        add_legend(figure, handles, labels, min(len(labels), 3 if max(map(len, labels)) <= LONG_LABEL else 2))
    return figure, titles


def _place(chart: Chart, places: Sequence[Any], point: Point) -> float:
    return float(places.index(point.x)) if chart.x_scale == "category" else float(point.x)


def _scale(axes: Any, chart: Chart, places: Sequence[Any]) -> None:
    if chart.x_scale == "category":
        axes.set_xticks(range(len(places)), [textwrap.fill(str(place), LONG_LABEL) for place in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif chart.x_scale == "log":
        axes.set_xscale("log")
        if len(places) <= 9:
            axes.set_xticks(sorted(places), [f"{place:g}" for place in sorted(places)])
            axes.minorticks_off()
    values = [point.y for series in chart.series for point in series.points if point.y is not None]
    if chart.y_scale == "log" and all(value > 0 for value in values):
        axes.set_yscale("log")
        low, high = min(values, default=1.0) / 1.6, max(values, default=1.0) * 1.6
        axes.set_ylim(low, high)
        if high / low < PLAIN_DECADES:
            _plain_ticks(axes)
    elif all(value >= 0 for value in values):
        top = max(values, default=1.0) or 1.0
        axes.set_ylim(0, min(axes.get_ylim()[1], 1.3 * top))  # an interval of two seeds may be huge


def _plain_ticks(axes: Any) -> None:
    """Write 20, not 2 × 10¹, on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _title(chart: Chart, series: Series, point: Point) -> str:
    x = f"{point.x:g}" if isinstance(point.x, (int, float)) else point.x
    half = "" if point.half is None else f" ± {point.half:.2g}"
    return f"{series.label}, {chart.x_label} {x}: {point.y:.4g}{half} ({chart.y_label})" + point.note
