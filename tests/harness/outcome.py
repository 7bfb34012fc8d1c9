"""How a run ended, judged by its exit code and by what every rank has reported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_TESTS = 5
"""pytest's exit status when nothing was selected."""

RAN = ("passed", "failed", "xfailed", "xpassed")


@dataclass(frozen=True)
class Outcome:
    """How one run ended; it passed when there are no problems."""

    ranks: int
    seconds: float
    problems: list[str]
    reports: list[dict[str, Any]]
    logs: Path

    def count(self, outcome: str) -> int:
        """Return the number of tests with this outcome, as rank 0 saw it."""
        return int(self.reports[0].get("outcomes", {}).get(outcome, 0))

    @property
    def ran(self) -> bool:
        """Whether any test ran, whatever came of it."""
        return any(self.count(outcome) for outcome in RAN)

    @property
    def selected_nothing(self) -> bool:
        """Whether every rank ended in order, having had nothing to run."""
        return not self.ran and all(
            report.get("finished") and report["exitstatus"] in (0, NO_TESTS) for report in self.reports
        )

    @property
    def odd_ranks(self) -> list[int]:
        """Ranks whose report is missing, not of success, or another than rank 0's."""
        return [
            rank
            for rank, report in enumerate(self.reports)
            if not report.get("finished") or report.get("exitstatus") or _numbers(report) != _numbers(self.reports[0])
        ]


def read_report(path: Path) -> dict[str, Any]:
    """Return what a rank has reported so far: {} if it never started."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _numbers(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "pid"}


def judge(exit_code: int | None, reports: list[dict[str, Any]]) -> list[str]:
    """Return what speaks against a pass: the exit code alone tells nothing about the single ranks."""
    statuses = {report.get("exitstatus") if report.get("finished") else None for report in reports}
    if len(statuses) == 1 and (status := statuses.pop()):
        return [f"pytest's exit status is {status}" + " on every rank" * (len(reports) > 1)]
    problems = []
    for rank, report in enumerate(reports):
        if not report.get("finished"):
            problems.append(f"rank {rank} left without its report" if report else f"rank {rank} never started")
        elif report["exitstatus"]:
            problems.append(f"rank {rank}: pytest's exit status is {report['exitstatus']}")
        elif _numbers(report) != _numbers(reports[0]):
            problems.append(f"rank {rank} counted {report.get('outcomes')}, rank 0 {reports[0].get('outcomes')}")
    if exit_code and not problems:
        problems.append(f"exit code {exit_code}")
    if not problems and not any(reports[0]["outcomes"].get(outcome) for outcome in RAN):
        problems.append("no test ran")
    return problems
