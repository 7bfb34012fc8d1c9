"""A pytest plugin that synchronizes the ranks, so that every test has the same outcome on all of them.

After the setup, the call and the teardown of every test the ranks exchange their outcomes, and a test that fails on one
rank fails on all. So no rank starts the next test before the others, and all ranks count the same outcomes. If a rank
waits in a collective call that another rank does not make, the watchdog ends the run with the stacks of all ranks.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from harness.watchdog import Watchdog
from harness.world import COMM, RANK, RANKS, STDERR

T = TypeVar("T")

SESSION_SECONDS = 50.0
"""Time limit of everything outside tests: collection and shutdown."""

TEXT = 8000
"""Number of characters of a failure that are sent to the other ranks."""

watchdog = Watchdog(f"rank {RANK} of {RANKS}", STDERR)
watchdog.arm(SESSION_SECONDS, "collection")


_exit, _process = os._exit, os.getpid()


def _exit_with_failure(status: int) -> None:
    """Replace ``os._exit`` of this process: if one rank exits with 0 in a test, mpiexec of MPICH may do so too."""
    if status == 0 and os.getpid() == _process:
        watchdog.log(f"{watchdog.name}: os._exit(0) was called")
        status = 1
    _exit(status)


os._exit = _exit_with_failure


class OtherRankFailedError(Exception):
    """An example passed on this rank and failed on another."""


def exchange(position: str, value: T) -> list[T]:
    """Return the values of all ranks; end the run if the ranks are at different positions. Collective."""
    pairs: list[tuple[str, T]] = COMM.allgather((position, value))
    positions = {rank: other for rank, (other, _) in enumerate(pairs)}
    if any(other != position for other in positions.values()):
        watchdog.log(f"{watchdog.name}: the ranks are at different positions: {positions}\n{watchdog.failure}")
        COMM.Barrier()  # until every rank has written its line
        os._exit(1)
    return [value for _, value in pairs]


def pytest_configure(config: pytest.Config) -> None:
    """Show the output of rank 0 alone, and let it alone write files: reports and the cache."""
    # In one temporary directory, ranks would remove old files of pytest at the same time, which raises errors.
    temporary = Path(tempfile.gettempdir(), f"pytest-{os.getuid()}-rank-{RANK}")
    temporary.mkdir(mode=0o700, exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)
    if RANK:
        config.workerinput = {}  # type: ignore[attr-defined]  # marks a worker of pytest-xdist, which writes none
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # for pytest's reporter, which is about to be constructed


def pytest_sessionstart() -> None:
    sys.stdout = sys.__stdout__


def pytest_internalerror(excrepr: object) -> None:
    if RANK:
        watchdog.log(f"{watchdog.name}: {excrepr}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        watchdog.failure += f"{report.longreprtext}\n"


def pytest_collection_finish(session: pytest.Session) -> None:
    names = "\n".join(item.nodeid for item in session.items)
    summary = f"{len(session.items)} tests, checksum {zlib.crc32(names.encode())}, {session.testsfailed} errors"
    collected = exchange("collection", (summary, watchdog.failure[-TEXT:]))
    watchdog.disarm()
    watchdog.failure = ""
    if len(set(collected)) > 1:
        lines = [f"rank {rank}: {summary}\n{text}" for rank, (summary, text) in enumerate(collected)]
        pytest.exit("\n".join(["the ranks collected different tests", *lines]), returncode=3)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watchdog.disarm()
    try:
        return (yield)
    finally:
        watchdog.arm(SESSION_SECONDS, f"the time after {item.nodeid}")


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Replace the timer of pytest-timeout, with its settings and markers."""
    watchdog.arm(settings.timeout, item.nodeid)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> bool:
    """Keep the deadline, which pytest-timeout would cancel after a failure, before teardown."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the report of one phase the same outcome on all ranks, and add the texts of the failures of all ranks."""
    report = yield
    watchdog.failure = _text(report) if report.failed else ""
    outcomes = exchange(f"{call.when} of {item.nodeid}", (_outcome(report), watchdog.failure[-TEXT:]))
    disagreement = _disagreement([outcome for outcome, _ in outcomes])
    if disagreement and not report.failed:
        report.outcome = "failed"
        report.longrepr = disagreement
    elif disagreement:
        report.sections.append(("all ranks", disagreement))
    shown = {_without_addresses(watchdog.failure[-TEXT:]), ""}
    for rank, (_, text) in enumerate(outcomes):
        if _without_addresses(text) not in shown:
            report.sections.append((f"failed on rank {rank}", text))
            shown.add(_without_addresses(text))
    watchdog.failure = ""
    return report


def _outcome(report: pytest.TestReport) -> str:
    """Return passed, failed, skipped, xfailed or xpassed."""
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.passed else "xfailed"
    return report.outcome


def _text(report: pytest.TestReport) -> str:
    """Return the failure and the captured output."""
    return "\n".join([report.longreprtext, *(f"--- {name}\n{content}" for name, content in report.sections)])


def _without_addresses(text: str) -> str:
    return re.sub("0x[0-9a-f]+", "0x", text)


def _disagreement(outcomes: Sequence[str]) -> str:
    """Return the ranks of each outcome if outcomes differ, otherwise ""."""
    ranks_of: dict[str, list[int]] = {}
    for rank, outcome in enumerate(outcomes):
        ranks_of.setdefault(outcome, []).append(rank)
    if len(ranks_of) == 1:
        return ""
    return "ranks disagree: " + ", ".join(f"{outcome} on {_name(ranks)}" for outcome, ranks in sorted(ranks_of.items()))


def _name(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Exchange outcomes after every hypothesis example, so that all ranks or none replay a failing one."""
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is not None and not hasattr(handle.inner_test, "synchronized"):
        handle.inner_test = _synchronized(handle.inner_test, item.nodeid)


def _synchronized(example: Callable[..., None], name: str) -> Callable[..., None]:
    @functools.wraps(example)
    def synchronized(*args: Any, **kwargs: Any) -> None:
        error: BaseException | None = None
        try:
            example(*args, **kwargs)
        except BaseException as caught:  # hypothesis rejects examples by exceptions
            error = caught
        errors = exchange(f"an example of {name}", "" if error is None else f"{type(error).__name__}: {error}"[:4000])
        if error is not None:
            raise error
        if any(errors):
            raise OtherRankFailedError(f"this example failed on another rank: {dict(enumerate(errors))}")

    synchronized.synchronized = True
    return synchronized


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Wait for all ranks, because a rank that exits with a failure ends the others before they have reported."""
    watchdog.arm(10.0, "shutdown")
    exchange("shutdown", None)
    watchdog.disarm()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30)  # for MPI_Finalize
