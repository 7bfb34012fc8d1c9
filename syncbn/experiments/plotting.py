"""Colours and helpers of all figures."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Literal

from syncbn.files import write_atomically

BLUE, SKY, GREEN, ORANGE, YELLOW, PINK, GREY, BLACK = (
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#d55e00",
    "#e69f00",
    "#cc79a7",
    "#7f7f7f",
    "#000000",
)
"""The palette of Okabe & Ito, which colour-blind readers can distinguish, and a grey."""


def new_figure(width: float, height: float, title: str = "", **font: Any) -> Any:
    """Return a figure of this size in inches; raise ImportError if matplotlib is missing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, parse_math=False, **font)  # the name of a directory may contain $
    return figure


def save_png(figure: Any, path: Path, dpi: int) -> None:
    """Draw a figure and replace the file atomically. Characters that the font lacks are drawn as boxes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(file, format="png", dpi=dpi)
    write_atomically(path, file.getvalue())


def add_legend(figure: Any, handles: Any, labels: Any, columns: int | None = None) -> None:
    """Add a legend below all panels."""
    labels = list(labels)
    figure.legend(list(handles), labels, loc="outside lower center", ncols=columns or len(labels), frameon=False)


def tidy(axes: Any, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a grid behind the data and remove the frame."""
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
