"""The record of a run: its JSON file, and the previous one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from regression import Outcome, Status, as_json
from results import Results

JSON = "speed.json"
LOST = "lost"
"""Directory of a run that lost a target, so that it does not replace the record with which it was compared."""


def directory_name(cpu: str) -> str:
    """Return the name of the directory of a machine; times of different processors are not comparable."""
    words = re.sub(r"\([^)]*\)", " ", cpu.lower())  # (R), (TM)
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"


MACHINE = ("cpu", "cores", "instruction_sets")
"""Properties that identify a machine; in virtual machines, processors of several generations may share a name."""


def read_targets(path: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recorded targets by name; {} without a record of a complete run on this machine."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    same = all(record["versions"].get(key) == machine[key] for key in MACHINE)
    if not (record["settings"]["complete"] and same):
        return {}
    return {target["name"]: target for target in record["targets"]}


def write(
    directory: Path,
    machine: dict[str, Any],
    settings: dict[str, Any],
    checked: list[tuple[Outcome, Status]],
    results: Results,
) -> None:
    """Write the JSON file with one line for each target and each case."""
    parts = {
        "versions": json.dumps(machine, indent=1),
        "settings": json.dumps(settings, indent=1),
        "targets": _lines([as_json(outcome, status) for outcome, status in checked]),
        "cases": _lines([measurement.as_json() for measurement in results]),
    }
    text = ",\n".join(f'"{name}": {part}' for name, part in parts.items())
    (directory / JSON).write_text(f"{{\n{text}\n}}\n")


def _lines(entries: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]"
