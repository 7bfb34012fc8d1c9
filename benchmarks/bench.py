"""The speed of syncbn and of PyTorch, JAX, oneDNN, ONNX Runtime, gloo, and the memory of this machine, in one run.

    python benchmarks/bench.py                          complete run, as by `make bench`
    python benchmarks/bench.py --quick                  one pass, writes no files
    python benchmarks/bench.py --only inference limits  some sections, writes no files

A complete run writes speed.json, speed.txt, targets.txt (its beginning), speed.png and growth.png into --output. The
regression check compares it with the previous speed.json there: a target that was met then and is now missed by more
than noise is lost. In this case the exit code is 1 and the files are written into --output/lost, so that the record is
kept. Exit code 2 means that a measurement failed.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
from processes import MeasurementError, run
from regression import Outcome, Status, evaluate, status_of
from report import tables
from results import Measurement, Results
from rich.console import Console
from sections import SECTIONS

from syncbn._core.kernels import which
from syncbn.cli.errors import CommandError
from syncbn.experiments.machine import BUSY, cpu_model, instruction_sets
from syncbn.experiments.versions import package_version, versions

RECORDS = Path("docs/benchmarks")
"""Directory of the records, with one directory for each machine."""

BASELINES = ("torch", "jax", "onnxruntime", "onnx")
LOAD_BEFORE = round(os.getloadavg()[0], 2)
"""Load average of the minute before the run: 0 on a quiet machine."""

COMPLETE = (6, 5)
QUICK = (1, 3)
"""Numbers of passes and rounds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = _options(argv)
    complete = not options.quick and options.only is None
    passes, rounds = QUICK if options.quick else COMPLETE
    default = RECORDS / record.directory_name(cpu_model())
    output = options.output or (default if complete else None)
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    start = time.monotonic()
    if LOAD_BEFORE > BUSY:
        print(f"other processes are running on this machine (load {LOAD_BEFORE}): times will be noisy", file=sys.stderr)

    def progress(number: int, case: Measurement) -> None:
        first, *others = case.candidates
        ratios = ", ".join(f"{name} × {case.ratios(name, first)[-1]:.2f}" for name in others)
        clock = f"{time.monotonic() - start:4.0f} s  pass {number + 1}/{passes}"
        print(
            f"{clock}  {case.group}  {case.name}: {first} {case.seconds(first) * 1e6:.0f} µs, {ratios}", file=sys.stderr
        )

    machine = describe()
    try:
        recorded = record.read_targets(options.record or (output or default) / record.JSON, machine)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"--record: not the record of a run: {error!r}", file=sys.stderr)
        return 2
    try:
        results = run(names, passes, rounds, progress)
    except (MeasurementError, CommandError) as error:
        print(error, file=sys.stderr)
        return 2
    checked = [(outcome, status_of(outcome, recorded.get(outcome.target.name))) for outcome in evaluate(results)]
    settings = {"complete": complete, "passes": passes, "rounds": rounds, "sections": names}
    tables.show(Console(width=max(tables.WIDTH, Console().width)), machine, settings, checked, results)
    lost = [outcome.target.name for outcome, status in checked if status == "lost"]
    if output is not None:
        write(output / record.LOST if lost else output, machine, settings, checked, results)
    if lost:
        print("lost beyond noise: " + "; ".join(lost), file=sys.stderr)
    return int(bool(lost))


def describe() -> dict[str, Any]:
    """Return the machine and the versions of the software."""
    machine = {**versions(), "instruction_sets": instruction_sets(), "kernels": which, "load": LOAD_BEFORE}
    return machine | {name: package_version(name) for name in BASELINES}


def write(
    directory: Path,
    machine: dict[str, Any],
    settings: dict[str, Any],
    checked: list[tuple[Outcome, Status]],
    results: Results,
) -> None:
    """Write all files of a run."""
    from report import figures

    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory, machine, settings, checked, results)
    for name, cases in (("speed.txt", results), ("targets.txt", Results())):
        text = io.StringIO()
        tables.show(Console(file=text, width=tables.WIDTH), machine, settings, checked, cases)
        lines = (line.rstrip() for line in text.getvalue().splitlines())
        (directory / name).write_text("\n".join(lines).strip() + "\n")
    title = f"{machine['cpu']}, float32, one thread"
    figures.draw_speed(directory / "speed.png", results, f"Memory speed: {title}")
    if results.groups("growth"):
        figures.draw_growth(directory / "growth.png", results, f"How time grows: {title}", machine["cores"])
    print(f"written: {directory}", file=sys.stderr)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    sections = "\n".join(f"  {name:14s}{section.about}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"sections:\n{sections}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one pass with few rounds, too noisy to find lost targets")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help="run only these sections")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIRECTORY",
        help=f"default of a complete run: that of this machine in {RECORDS}",
    )
    parser.add_argument("--record", type=Path, metavar="JSON", help="compare with this run (default: that in --output)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
