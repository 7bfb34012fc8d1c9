"""A figure of the records of a training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from syncbn.files import check_path
from syncbn.monitor.records import PathLike, Record, read_records

_STYLES = ("-", "--", ":", "-.")


def _grad_norm(record: Record) -> float | None:
    """Return the norm of the gradients of all parameters of a layer."""
    norms = list(record.get("grad_norms", {}).values())
    return math.hypot(*norms) if norms and None not in norms else None


_PANELS: dict[str, Callable[[Record], float | None]] = {
    "distance of means (in σ)": lambda record: record.get("mean_distance"),
    "distance of variances (ln ratio)": lambda record: record.get("var_distance"),
    "dead units of ReLU (fraction)": lambda record: record.get("dead"),
    "norm of gradients": _grad_norm,
}
"""Value of a record in each panel, by the panel's label."""


def plot(path: PathLike, output: PathLike | None = None) -> Any:
    """Draw the records of a `Monitor`: distances of statistics, dead units and norms of gradients by step.

    Not collective: one rank may draw. It needs matplotlib, which the extra ``cli`` installs.

    Parameters
    ----------
    path : path
        File of a `Monitor`, of a training that may still run.
    output : path, optional
        File of the figure, such as ``run.png``. Its suffix is the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is missing.
    ValueError
        There are no records, or a line is not JSON.
    OSError
        A file cannot be read or written.

    See Also
    --------
    syncbn.monitor.read_records : Read the records.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchNorm, SerialComm, nn
    >>> from syncbn.monitor import Monitor
    >>> model = nn.Sequential(nn.Dense(4, 3), BatchNorm(3), nn.ReLU())
    >>> with Monitor(model, "run.jsonl", SerialComm()) as monitor:
    ...     y, backward = model(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    ...     dx = backward(y)
    >>> from syncbn.monitor import plot
    >>> figure = plot("run.jsonl", "run.png")
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    records = read_records(path)
    if not records:
        raise ValueError(f"{os.fspath(path)} has no records: train at least one step with the monitor")
    layers = list(dict.fromkeys(record["layer"] for record in records))
    viridis = colormaps["viridis"]  # without its end, which is too light for lines
    figure = Figure(figsize=(10, 6), layout="constrained")
    drawn = {}
    for axes, (label, value) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        for number, layer in enumerate(layers):
            points = [(r["step"], value(r)) for r in records if r["layer"] == layer]
            points = [(step, y) for step, y in points if y is not None]
            if points:
                style = _STYLES[number % len(_STYLES)]
                drawn[layer] = axes.plot(
                    *zip(*points, strict=True), style, color=viridis(0.85 * number / len(layers)), linewidth=1
                )[0]
        axes.set(xlabel="step", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
    for axes in figure.axes[:-1]:
        top = max(0.1, axes.get_ylim()[1])
        axes.set_ylim(-0.03 * top, top)
    figure.axes[-1].set_yscale("symlog", linthresh=1e-6)
    names = {record["layer"]: f"{record['layer'] or 'model'} ({record.get('type', '')})" for record in records}
    handles = [drawn[layer] for layer in layers if layer in drawn]
    labels = [names[layer].replace("$", r"\$") for layer in layers if layer in drawn]
    figure.legend(handles, labels, loc="outside right upper", ncols=-(-len(handles) // 30), fontsize="small")
    if output is not None:
        figure.savefig(check_path("output", output))
    return figure
