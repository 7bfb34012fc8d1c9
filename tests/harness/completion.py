"""A pytest plugin that writes what this process has done, as its very last act.

A rank that vanishes (``os._exit(0)``, SIGKILL) can leave an exit code of 0 behind, but no report.
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
    """Counts outcomes and writes them to ``rank-R.json``; until then the file has the process id alone."""

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
    """Begin the report, and let tests/run.py ask for stacks with SIGUSR1 when its time is over."""
    faulthandler.register(signal.SIGUSR1, file=STDERR, all_threads=True)
    config.pluginmanager.register(CompletionReport(LOGS / f"rank-{RANK}.json"), "completion-report")
