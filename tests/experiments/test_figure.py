"""The figure of a comparison can be drawn from any results."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from syncbn.experiments.figure import STYLES, save_figure
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.results import Run


def run(norm: str, batch: int, seed: int, errors: list[float], lr: float = 0.03, *, diverged: bool = False) -> Run:
    points = len(errors)
    epochs = [(point + 1) / 4 for point in range(points)]
    return Run(norm, batch, seed, lr, epochs, [1.0] * points, [1.0] * points, errors, diverged=diverged)


def test_every_normalizer_has_a_style_of_its_own() -> None:
    assert set(STYLES) == set(NORMALIZERS)
    assert len(set(STYLES.values())) == len(STYLES)


@pytest.mark.parametrize("seeds", [1, 3])
def test_figure(tmp_path: Path, seeds: int) -> None:
    runs = [
        run(norm, batch, seed, [0.5, 0.3 + 0.01 * seed])
        for norm in ("bn", "syncbn")
        for batch in (2, 8)
        for seed in range(seeds)
    ]
    runs += [run("none", 2, seed, [], diverged=True) for seed in range(seeds)]  # diverged before the first evaluation
    runs += [run("ln", 2, seed, [0.0, 0.0]) for seed in range(seeds)]  # no errors, which a logarithmic axis cannot show
    path = tmp_path / "figure.png"
    save_figure(path, runs, "a title")
    pixels = imread(path)
    assert pixels.shape == (750, 1650, 4)
    for color in ("bn", "syncbn"):
        red, green, blue = (int(STYLES[color][0][i : i + 2], 16) / 255 for i in (1, 3, 5))
        drawn = abs(pixels[..., :3] - (red, green, blue)).max(axis=2) < 0.01
        assert drawn.sum() > 500


def test_all_diverged(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    save_figure(path, [run("none", 2, 0, [], diverged=True)], "a title")
    assert imread(path)[..., :3].min() < 0.5  # at least axes and labels are drawn


def test_a_panel_for_each_learning_rate(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    save_figure(path, [run("bn", 2, 0, [0.5, 0.3], lr) for lr in (0.01, 0.1)], "a title")
    assert imread(path).shape == (750, 2325, 4)
