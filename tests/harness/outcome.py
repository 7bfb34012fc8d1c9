"""Outcome of a run, determined by its exit code and the reports of all ranks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_TESTS = 5
"""Exit status of pytest if no tests were selected."""

RAN = ("passed", "failed", "xfailed", "xpassed")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run, which passed if there are no problems."""

    ranks: int
    seconds: float
    problems: list[str]
    reports: list[dict[str, Any]]
    logs: Path

    def count(self, outcome: str) -> int:
        """Return the number of tests with this outcome on rank 0."""
        return int(self.reports[0].get("outcomes", {}).get(outcome, 0))

    @property
    def ran(self) -> bool:
        """True if any test ran, with any outcome."""
        return any(self.count(outcome) for outcome in RAN)

    @property
    def selected_nothing(self) -> bool:
        """True if every rank completed without running tests."""
        return not self.ran and all(
            report.get("finished") and report["exitstatus"] in (0, NO_TESTS) for report in self.reports
        )

    @property
    def failed_ranks(self) -> list[int]:
        """Ranks whose report is missing, contains a failure, or differs from that of rank 0."""
        return [
            rank
            for rank, report in enumerate(self.reports)
            if not report.get("finished") or report.get("exitstatus") or _numbers(report) != _numbers(self.reports[0])
        ]


def read_report(path: Path) -> dict[str, Any]:
    """Return the report of a rank, {} if it did not start."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _numbers(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "pid"}


def judge(exit_code: int | None, reports: list[dict[str, Any]]) -> list[str]:
    """Return the problems of a run; the exit code does not show those of single ranks."""
    statuses = {report.get("exitstatus") if report.get("finished") else None for report in reports}
    if len(statuses) == 1 and (status := statuses.pop()):
        return [f"exit status {status} of pytest" + " on every rank" * (len(reports) > 1)]
    problems = []
    for rank, report in enumerate(reports):
        if not report.get("finished"):
            problems.append(f"rank {rank} exited without its report" if report else f"rank {rank} did not start")
        elif report["exitstatus"]:
            problems.append(f"rank {rank}: exit status {report['exitstatus']} of pytest")
        elif _numbers(report) != _numbers(reports[0]):
            problems.append(f"rank {rank} counted {report.get('outcomes')}, rank 0 {reports[0].get('outcomes')}")
    if exit_code and not problems:
        problems.append(f"exit code {exit_code}")
    if not problems and not any(reports[0]["outcomes"].get(outcome) for outcome in RAN):
        problems.append("no test ran")
    return problems
