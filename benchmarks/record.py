"""The files of a run, and the recorded run before it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from judgement import Outcome, Verdict, as_json
from results import Results

JSON = "speed.json"
LOST = "lost"
"""Where a run that has lost a target is written, so that it does not replace the record that it is judged by."""


def directory_name(cpu: str) -> str:
    """Return the name of a machine's directory: times of one processor are no record for another."""
    words = re.sub(r"\([^)]*\)", " ", cpu.lower())  # (R), (TM)
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"


MACHINE = ("cpu", "cores", "instruction_sets")
"""What must be the same: virtual machines of several generations may have a processor of one name."""


def read_targets(path: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recorded targets by name; nothing without a record, or with that of a short run or another machine."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    same = all(record["versions"].get(key) == about[key] for key in MACHINE)
    if not (record["settings"]["complete"] and same):
        return {}
    return {target["name"]: target for target in record["targets"]}


def write(
    directory: Path,
    about: dict[str, Any],
    settings: dict[str, Any],
    judged: list[tuple[Outcome, Verdict]],
    results: Results,
) -> None:
    """Write the JSON: one line for each target and each case."""
    parts = {
        "versions": json.dumps(about, indent=1),
        "settings": json.dumps(settings, indent=1),
        "targets": _lines([as_json(outcome, said) for outcome, said in judged]),
        "cases": _lines([measurement.as_json() for measurement in results]),
    }
    text = ",\n".join(f'"{name}": {part}' for name, part in parts.items())
    (directory / JSON).write_text(f"{{\n{text}\n}}\n")


def _lines(entries: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]"
