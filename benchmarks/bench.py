"""How fast syncbn is beside PyTorch, JAX, ONNX Runtime, gloo and this machine's memory, all in one run.

    python benchmarks/bench.py                          everything: what `make bench` does
    python benchmarks/bench.py --quick                  a look: one pass, nothing written
    python benchmarks/bench.py --only inference limits  some sections, nothing written

A complete run writes speed.json, speed.txt, targets.txt (its beginning), speed.png and growth.png into --output,
and is judged by the speed.json that lay there before. A target that was met then and is now missed by more than
noise is lost: the exit code is 1, and the files go into --output/lost, so that the record stays. Exit code 2: no
measurement.
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
from judgement import Outcome, Verdict, evaluate, verdict
from processes import MeasurementError, run
from report import tables
from results import Measurement, Results
from rich.console import Console
from sections import SECTIONS

from syncbn._core.kernels import which
from syncbn.cli.errors import CommandError
from syncbn.experiments.machine import BUSY, cpu_model, instruction_sets
from syncbn.experiments.versions import package_version, versions

RECORDS = Path("docs/benchmarks")
"""With a directory for each machine."""

PEERS = ("torch", "jax", "onnxruntime", "onnx")
LOAD_BEFORE = round(os.getloadavg()[0], 2)
"""Processes that ran here in the minute before the run: 0 on a quiet machine."""

COMPLETE = (6, 5)
QUICK = (1, 3)
"""Passes and rounds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    options = _options(argv)
    complete = not options.quick and options.only is None
    passes, rounds = QUICK if options.quick else COMPLETE
    here = RECORDS / record.directory_name(cpu_model())
    output = options.output or (here if complete else None)
    names = [name for name in SECTIONS if options.only is None or name in options.only]
    start = time.monotonic()
    if LOAD_BEFORE > BUSY:
        print(f"other processes are running here (load {LOAD_BEFORE}): times will be noisy", file=sys.stderr)

    def progress(number: int, case: Measurement) -> None:
        first, *others = case.candidates
        ratios = ", ".join(f"{name} × {case.ratios(name, first)[-1]:.2f}" for name in others)
        clock = f"{time.monotonic() - start:4.0f} s  pass {number + 1}/{passes}"
        print(
            f"{clock}  {case.group}  {case.name}: {first} {case.seconds(first) * 1e6:.0f} µs, {ratios}", file=sys.stderr
        )

    try:
        results = run(names, passes, rounds, progress)
    except (MeasurementError, CommandError) as error:
        print(error, file=sys.stderr)
        return 2
    about = describe()
    recorded = record.read_targets(options.record or (output or here) / record.JSON, about)
    judged = [(outcome, verdict(outcome, recorded.get(outcome.target.name))) for outcome in evaluate(results)]
    settings = {"complete": complete, "passes": passes, "rounds": rounds, "sections": names}
    tables.show(Console(width=max(tables.WIDTH, Console().width)), about, settings, judged, results)
    lost = [outcome.target.name for outcome, said in judged if said == "lost"]
    if output is not None:
        write(output / record.LOST if lost else output, about, settings, judged, results)
    if lost:
        print("lost beyond noise: " + "; ".join(lost), file=sys.stderr)
    return int(bool(lost))


def describe() -> dict[str, Any]:
    """Return machine and versions."""
    about = {**versions(), "instruction_sets": instruction_sets(), "kernels": which, "load": LOAD_BEFORE}
    return about | {name: package_version(name) for name in PEERS}


def write(
    directory: Path,
    about: dict[str, Any],
    settings: dict[str, Any],
    judged: list[tuple[Outcome, Verdict]],
    results: Results,
) -> None:
    """Write all files of a run."""
    from report import pictures

    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory, about, settings, judged, results)
    for name, cases in (("speed.txt", results), ("targets.txt", Results())):
        text = io.StringIO()
        tables.show(Console(file=text, width=tables.WIDTH), about, settings, judged, cases)
        lines = (line.rstrip() for line in text.getvalue().splitlines())
        (directory / name).write_text("\n".join(lines).strip() + "\n")
    title = f"{about['cpu']}, float32, one thread"
    pictures.draw_speed(directory / "speed.png", results, f"Memory speed: {title}")
    if results.groups("growth"):
        pictures.draw_growth(directory / "growth.png", results, f"How time grows: {title}", about["cores"])
    print(f"written: {directory}", file=sys.stderr)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    sections = "\n".join(f"  {name:14s}{section.about}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"sections:\n{sections}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one pass of few rounds: noisy, and never judged as lost")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help="these sections alone")
    parser.add_argument(
        "--output", type=Path, metavar="DIRECTORY", help=f"default of a complete run: one for this machine in {RECORDS}"
    )
    parser.add_argument("--record", type=Path, metavar="JSON", help="judge by this run (default: the one in --output)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
