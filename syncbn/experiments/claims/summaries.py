"""Summaries of results: numbers over the seeds, comparisons of two settings, and the lines of charts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from syncbn.experiments.claims.chart import Point, Series, point
from syncbn.experiments.claims.check import Check, less
from syncbn.experiments.claims.claim import Key, Result
from syncbn.experiments.claims.setup import SAMPLES, Setup
from syncbn.experiments.statistics import interval


def values(results: Sequence[Result], name: str, **setting: Any) -> list[Any]:
    """Return a number of all results with this setting, in the order of the seeds; ``a/b`` is item b of number a."""
    chosen = sorted((result for result in results if result.matches(**setting)), key=lambda result: result.key["seed"])
    if not chosen:
        raise ValueError(f"no result has the setting {setting}")
    return [reduce(getitem, name.split("/"), result.numbers) for result in chosen]


def by_seed(results: Sequence[Result], name: str, **setting: Any) -> list[float]:
    """Return the mean of a number over the results of each seed with this setting, in the order of the seeds.

    It is NaN for a seed with a result that has no value, None.
    """
    return [
        float(np.mean([math.nan if value is None else value for value in found]))
        for found in _of_each_seed(results, name, setting)
    ]


def lost(results: Sequence[Result], **setting: Any) -> list[bool]:
    """Return for each seed whether all results with this setting diverged."""
    return [all(found) for found in _of_each_seed(results, "diverged", setting)]


def compare_errors(
    setup: Setup,
    text: str,
    results: Sequence[Result],
    a: Key,
    b: Key,
    names: tuple[str, str] = ("error", "error"),
    **options: Any,
) -> Check:
    """Return the check that the error is less in setting a than in b.

    Where a seed has several results with a setting, their mean counts, and the run is lost if all diverged.

    Parameters
    ----------
    setup : Setup
    text : str
    results : sequence of Result
    a, b : dict
        Values of the keys of both settings.
    names : pair of str
        Names of the errors of both among the numbers, as in `values`.
    **options
        Further arguments of `less`.
    """
    options = {"grid": one_image(setup), "lost": (lost(results, **a), lost(results, **b)), **options}
    return less(text, by_seed(results, names[0], **a), by_seed(results, names[1], **b), **options)


def compare_finished(
    text: str,
    results: Sequence[Result],
    a: Key,
    b: Key,
    names: tuple[str, str],
    unit: str,
    *,
    factor: float = 1.0,
    **options: Any,
) -> Check:
    """Return the check that a number is less in setting a than in b, which has no value for a run that diverged.

    A seed with a run that diverged, in either setting, counts for neither. Arguments are those of `compare_errors`.
    """
    pairs = zip(*(_of_each_seed(results, "diverged", setting) for setting in (a, b)), strict=True)
    without = [any((*of_a, *of_b)) for of_a, of_b in pairs]
    found = (by_seed(results, name, **setting) for name, setting in zip(names, (a, b), strict=True))
    return less(text, *found, unit=unit, factor=factor, lost=(without, without), **options)


def one_image(setup: Setup) -> float:
    """Return the step of the grid on which errors lie: one image of the test."""
    return 1.0 / SAMPLES[setup.effort][2]


def _of_each_seed(results: Sequence[Result], name: str, setting: Key) -> list[list[Any]]:
    seeds = sorted({result.key["seed"] for result in results if result.matches(**setting)})
    if not seeds:
        raise ValueError(f"no result has the setting {setting}")
    return [values(results, name, **{**setting, "seed": seed}) for seed in seeds]


def lines(
    results: Sequence[Result],
    number: str,
    settings: Mapping[str, Key],
    axis: str,
    places: Sequence[Any],
    factor: float = 100.0,
) -> list[Series]:
    """Return a line for each label and setting: a number of the results, by the value of ``axis`` in their keys."""

    def at(setting: Key, place: Any) -> Point:
        found = [result for result in results if result.matches(**setting, **{axis: place})]
        diverged = sum(bool(result.numbers.get("diverged")) for result in found)
        note = f", {diverged} of {len(found)} diverged" if diverged else ""
        return point(place, values(found, number), factor, note)

    return [Series(label, [at(setting, place) for place in places]) for label, setting in settings.items()]


def cells(results: Sequence[Result], *numbers: str) -> list[dict[str, Any]]:
    """Return the summary of these numbers over the seeds of each setting, as JSON values."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        setting = {name: value for name, value in result.key.items() if name != "seed"}
        groups.setdefault(json.dumps(setting), []).append(result)
    return [
        {**json.loads(setting), **{number: summary(values(group, number)) for number in numbers}}
        for setting, group in groups.items()
    ]


def summary(numbers: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, half width of the interval and count as JSON values; a mean of None if a number is None."""
    known = [number for number in numbers if number is not None]
    found = asdict(interval(known)) if len(known) == len(numbers) else {"mean": None, "half_width": None}
    return {**found, "count": len(numbers)}
