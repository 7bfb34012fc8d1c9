"""Colours and helpers of all figures."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

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


_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


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


def save_svg(figure: Any, path: Path, titles: Mapping[str, Sequence[str]]) -> None:
    """Draw a figure as SVG for inclusion in a page, and replace the file atomically.

    Black and white become the page's colours, ids begin with the file's name, and the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
    path : Path
    titles : mapping of str to sequence of str
        For the id of a line, the texts of its markers, which browsers show under the pointer.
    """
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem, "font.family": ["sans-serif"]}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    write_atomically(path, _for_pages(file.getvalue(), path.stem, titles))


def _for_pages(content: bytes, prefix: str, titles: Mapping[str, Sequence[str]]) -> bytes:
    """Return an SVG file with titles, ids that begin with ``prefix``, and ``currentColor`` for black."""
    for name, address in (("", _SVG), ("xlink", _XLINK)):
        ElementTree.register_namespace(name, address)
    root = ElementTree.fromstring(content)
    for element in list(root):
        if element.tag == f"{{{_SVG}}}metadata":
            root.remove(element)
    for element in root.iter():
        if element.get("id") in titles:
            markers = element.iter(f"{{{_SVG}}}use")
            for marker, text in zip(markers, titles[element.attrib["id"]], strict=True):
                ElementTree.SubElement(marker, f"{{{_SVG}}}title").text = text
        for name, value in element.attrib.items():
            value = re.sub(r"url\(#", f"url(#{prefix}-", value).replace(BLACK, "currentColor")
            if name == "id":
                value = f"{prefix}-{value}"
            elif name == f"{{{_XLINK}}}href":
                value = f"#{prefix}-{value[1:]}"
            element.set(name, value)
    return ElementTree.tostring(root)


def add_legend(figure: Any, handles: Any, labels: Any, columns: int | None = None) -> None:
    """Add a legend below all panels."""
    labels = list(labels)
    figure.legend(list(handles), labels, loc="outside lower center", ncols=columns or len(labels), frameon=False)


def tidy(axes: Any, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a grid behind the data and remove the frame."""
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
