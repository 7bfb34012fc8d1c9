"""Tables of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from regression import Outcome, Status
from results import Measurement, Results
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from report.traffic import COPY, gigabytes_per_second, passes

WIDTH = 118
COLORS = {"met": "green", "missed": "yellow", "within noise": "yellow", "lost": "bold red"}
LIBRARIES = ("syncbn", "numpy", "torch", "jax", "onnxruntime", "python")


def show(
    console: Console,
    machine: dict[str, Any],
    settings: dict[str, Any],
    checked: list[tuple[Outcome, Status]],
    results: Results,
) -> None:
    """Print the whole report."""
    for part in _parts(machine, settings, checked, results):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)


def _parts(
    machine: dict[str, Any], settings: dict[str, Any], checked: list[tuple[Outcome, Status]], results: Results
) -> Iterator[RenderableType]:
    processor = f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['instruction_sets'])}"
    yield f"{processor}; kernels of syncbn: {machine['kernels']}"
    libraries = [f"{name} {machine[name]}" for name in LIBRARIES if machine.get(name)]
    yield ", ".join([*libraries, machine.get("mpi_library") or "no MPI"])
    extent = f"{settings['passes']} pass{'es' * (settings['passes'] > 1)} of {settings['rounds']} rounds"
    yield f"float32, one thread each; {extent}{'' if settings['complete'] else ' (not a complete run)'}"
    yield f"load average before the run: {machine['load']}\n"
    if checked:
        yield _targets(checked)
    curves = results.groups("growth")
    for group in results.groups():
        if group not in curves:
            yield _comparison(group, results)
    for group in curves:
        yield _curve(group, results)
    if results.groups("growth, ranks"):
        yield f"More than {machine['cores']} ranks share cores and wait for each other."


def _targets(checked: list[tuple[Outcome, Status]]) -> Table:
    table = _table("Targets: median of the passes, and interval from the smallest to the largest", "target")
    for heading in ("value", "interval", "limit", "over", "status"):
        _column(table, heading, left=heading in ("over", "status"))
    for outcome, status in checked:
        target = outcome.target
        sign, unit = ("≤", "× the time") if target.at_most else ("≥", "× as fast")
        over = f"worst: {outcome.of}" if target.over == "worst" else target.over
        table.add_row(
            target.name,
            f"{outcome.value:.2f}",
            f"[{outcome.low:.2f}, {outcome.high:.2f}]".replace("[", r"\["),
            f"{sign} {target.limit:g} {unit}",
            over,
            f"[{COLORS[status]}]{status}[/]",
        )
    return table


def _comparison(group: str, results: Results) -> Table:
    """Return the times of one group and their ratios to the time of the first candidate."""
    cases = results.group(group)
    first, *others = cases[0].candidates
    baselines = [name for name in others if name != COPY]
    table = _table(group, "case")
    for name in (first, *others):
        _column(table, f"{name} µs")
    for name in baselines:
        _column(table, f"{name} ÷ {first}")
    with_traffic = passes(group) is not None and COPY in others
    if with_traffic:
        _column(table, f"{first} GB/s")
        _column(table, "copy GB/s")
    for case in cases:
        cells = [_micro(case.seconds(name)) for name in (first, *others)]
        cells += [f"{statistics.median(case.ratios(name, first)):.2f}" for name in baselines]
        if with_traffic:
            cells += [f"{gigabytes_per_second(case, name):.1f}" for name in (first, COPY)]
        table.add_row(case.name + (f"  ({case.weight} layers)" if case.weight > 1 else ""), *cells)
    return table


def _curve(group: str, results: Results) -> Table:
    """Return the times along a curve and the exponent p of time ~ n^p of the first candidate."""
    cases = results.group(group)
    names = cases[0].candidates
    table = _table(group, group.split(", ")[1].partition(" by ")[0])
    for name in names:
        _column(table, f"{name} µs")
    _column(table, f"{names[0]} ns/value")
    _column(table, "exponent")
    for previous, case in zip([None, *cases], cases, strict=False):
        value = case.seconds(names[0]) / (case.size / 4) * 1e9
        exponent = "" if previous is None else f"{_exponent(previous, case, names[0]):.2f}"
        table.add_row(case.name, *(_micro(case.seconds(name)) for name in names), f"{value:.2f}", exponent)
    return table


def _exponent(previous: Measurement, case: Measurement, candidate: str) -> float:
    growth = case.seconds(candidate) / previous.seconds(candidate)
    return math.log(growth) / math.log((case.point or 1) / (previous.point or 1))


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _column(table: Table, heading: str, left: bool = False) -> None:
    table.add_column(heading, justify="left" if left else "right", no_wrap=left, min_width=len(heading))


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"
