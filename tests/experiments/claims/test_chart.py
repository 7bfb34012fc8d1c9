"""Charts are drawn with their values under the pointer, without colours as the only mark, and as the same bytes."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from syncbn.experiments.claims.chart import STYLES, Chart, Point, Series, point, save_chart

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("1")</script> & $x^{'
CHART = Chart(
    "error",
    "Test error",
    "batch (samples)",
    "error (%)",
    [
        Series("BN", [Point(2, 60.5, 1.2), Point(8, 30.25), Point(32, None)]),
        Series(HOSTILE, [Point(2, 20.0, 0.5, ", 1 diverged"), Point(8, 19.0), Point(32, 18.0)]),
    ],
    "log",
)


def saved(path, chart):
    save_chart(path, chart)
    return path.read_text()


def titles(text):
    return [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}title")]


def test_every_value_has_a_title(tmp_path):
    assert titles(saved(tmp_path / "chart.svg", CHART)) == [
        "BN, batch (samples) 2: 60.5 ± 1.2 (error (%))",
        "BN, batch (samples) 8: 30.25 (error (%))",
        f"{HOSTILE}, batch (samples) 2: 20 ± 0.5 (error (%)), 1 diverged",
        f"{HOSTILE}, batch (samples) 8: 19 (error (%))",
        f"{HOSTILE}, batch (samples) 32: 18 (error (%))",
    ]


@pytest.mark.parametrize("x_scale", ["linear", "log", "category"])
@pytest.mark.parametrize("y_scale", ["linear", "log"])
def test_all_scales_show_all_values(tmp_path, x_scale, y_scale):
    chart = replace(CHART, x_scale=x_scale, y_scale=y_scale)
    assert len(titles(saved(tmp_path / "chart.svg", chart))) == 5


def test_zero_on_a_logarithmic_axis(tmp_path):
    series = [Series("a", [Point(1, 0.0), Point(2, 5.0)])]
    assert len(titles(saved(tmp_path / "chart.svg", replace(CHART, series=series, y_scale="log")))) == 2


def test_the_page_gives_the_colour_of_text_and_axes(tmp_path):
    text = saved(tmp_path / "chart.svg", CHART)
    assert "#000000" not in text
    assert "currentColor" in text
    assert HOSTILE not in text


def test_ids_of_charts_in_one_page_differ(tmp_path):
    found = []
    for name in ("first", "second"):
        root = ElementTree.fromstring(saved(tmp_path / f"{name}.svg", CHART))
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        links = [v[1:] for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        links += [v[5:-1] for e in root.iter() for v in e.attrib.values() if v.startswith("url(#")]
        assert len(ids) == len(set(ids)) > 10
        assert links
        assert set(links) <= set(ids)
        found.append(set(ids))
    assert not found[0] & found[1]


def test_the_same_chart_has_the_same_bytes(tmp_path):
    first = saved(tmp_path / "chart.svg", CHART)
    assert saved(tmp_path / "chart.svg", CHART) == first
    assert saved(tmp_path / "chart.svg", replace(CHART, title="other")) != first


def test_png_has_a_reasonable_size(tmp_path):
    save_chart(tmp_path / "chart.png", CHART)
    height, width, _ = imread(tmp_path / "chart.png").shape
    assert 400 < height < width < 1500


def test_series_differ_without_colours():
    assert len({(marker, line) for _, marker, line in STYLES}) == len(STYLES)
    assert len({marker for _, marker, _ in STYLES}) == len(STYLES)


def test_a_point_of_values():
    assert point(3, [0.1, 0.1], 100) == Point(3, 10.0, 0.0)
    assert point(3, [0.1], 100) == Point(3, 10.0, None)
    assert point(3, [0.1, None], 100) == Point(3, None)
