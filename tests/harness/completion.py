"""A pytest plugin that writes a completion report at the end of the process.

The exit code can be 0 although a rank called ``os._exit(0)`` or was killed, but then its report is missing.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.world import LOGS, RANK, STDERR


def outcome_of(report: pytest.TestReport) -> str:
    """Return passed, failed, skipped, xfailed or xpassed."""
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.passed else "xfailed"
    return report.outcome


class CompletionReport:
    """The report ``rank-R.json`` of outcomes; until the end of the run it contains only the process id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report: dict[str, Any] = {"pid": os.getpid()}
        self.outcomes: Counter[str] = Counter()
        self._write()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        names = "\n".join(item.nodeid for item in session.items)
        self.report |= {"collected": len(session.items), "tests": zlib.crc32(names.encode())}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.outcomes[outcome_of(report)] += 1

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.report |= {"exitstatus": int(exitstatus), "outcomes": dict(sorted(self.outcomes.items()))}

    def pytest_unconfigure(self) -> None:
        self.report["finished"] = True
        self._write()

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(self.report))
        draft.replace(self.path)


def pytest_configure(config: pytest.Config) -> None:
    """Start the report, and write all stacks on SIGUSR1, which tests/run.py sends at its time limit."""
    faulthandler.register(signal.SIGUSR1, file=STDERR, all_threads=True)
    config.pluginmanager.register(CompletionReport(LOGS / f"rank-{RANK}.json"), "completion-report")
