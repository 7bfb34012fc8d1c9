"""The figure of a benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from syncbn.experiments.bench.report import BenchReport
from syncbn.experiments.overhead import KINDS
from syncbn.experiments.plotting import BLUE, GREEN, GREY, ORANGE, new_figure, save_png, tidy

COLORS = {"copy": GREY, "forward": BLUE, "backward": ORANGE}


def save_figure(path: Path, report: BenchReport) -> None:
    """Draw the speed of kernels, the time of allreduces and the time of a step's layers as PNG.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    figure = new_figure(14, 4.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(3, 2, 1))
    labels = [f"{'×'.join(map(str, row['shape']))}\n{row['threads']} thr." for row in report.kernels]
    positions = np.arange(len(labels))
    for shift, (name, color) in zip((-0.27, 0, 0.27), COLORS.items(), strict=True):
        left.bar(positions + shift, [row["gigabytes"][name] for row in report.kernels], 0.27, color=color, label=name)
    left.set_xticks(positions, labels, fontsize="x-small", rotation=45)
    left.set_ylabel("memory moved (GB/s)")
    left.legend(frameon=False)
    timings = [t for t in report.measurement.timings if t.ranks > 1]
    middle.plot([t.nbytes for t in timings], [t.microseconds for t in timings], color=BLUE, marker="o")
    middle.set_xscale("log", base=2)
    middle.set_yscale("log")
    middle.set_xlabel("bytes")
    middle.set_ylabel(f"allreduce on {report.measurement.ranks} ranks (µs)")
    right.bar(KINDS, [report.measurement.layers[kind] / 1e3 for kind in KINDS], color=GREEN)
    right.set_ylabel(f"BN layers of {report.network} (ms per step)")
    for axes in (left, middle, right):
        tidy(axes)
    save_png(figure, path, 110)
