"""A pytest plugin that synchronizes the ranks, so that every test has the same outcome on all of them.

After the setup, the call and the teardown of every test the ranks exchange their outcomes, and a test that fails on one
rank fails on all. So no rank starts the next test before the others, and all ranks count the same outcomes. If a rank
waits in a collective call that another rank does not make, the watchdog ends the run with the stacks of all ranks.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import pytest

from harness.completion import outcome_of
from harness.watchdog import Watchdog
from harness.world import COMM, RANK, RANKS, log

T = TypeVar("T")

SESSION_SECONDS = 50.0
"""Time limit of everything outside tests: collection and shutdown."""

watchdog = Watchdog(f"rank {RANK} of {RANKS}", log)
watchdog.arm(SESSION_SECONDS, "collection")


class OtherRankFailedError(Exception):
    """An example passed on this rank and failed on another."""


def exchange(position: str, value: T) -> list[T]:
    """Return the values of all ranks; end the run if the ranks are at different positions. Collective."""
    pairs: list[tuple[str, T]] = COMM.allgather((position, value))
    positions = {rank: other for rank, (other, _) in enumerate(pairs)}
    if any(other != position for other in positions.values()):
        log(f"rank {RANK}: the ranks are at different positions: {positions}\n{watchdog.failure}")
        COMM.Barrier()  # until every rank has written its line
        os._exit(1)
    return [value for _, value in pairs]


def pytest_collection_finish(session: pytest.Session) -> None:
    names = "\n".join(item.nodeid for item in session.items)
    summary = (len(session.items), zlib.crc32(names.encode()), session.testsfailed)
    summaries = exchange("collection", summary)
    watchdog.disarm()
    if len(set(summaries)) > 1:
        pytest.exit(f"the ranks collected different tests (number, checksum, errors): {summaries}", returncode=3)


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
    """Give the report of one phase the same outcome on all ranks."""
    report = yield
    watchdog.failure = report.longreprtext if report.failed else ""
    outcomes = exchange(f"{call.when} of {item.nodeid}", (outcome_of(report), watchdog.failure[-4000:]))
    watchdog.failure = ""
    if disagreement := _disagreement(outcomes):
        if not report.failed:
            report.outcome = "failed"
            report.longrepr = disagreement
        else:
            report.sections.append(("all ranks", disagreement.splitlines()[0]))
    return report


def _disagreement(outcomes: Iterable[tuple[str, str]]) -> str:
    """Return the ranks of each outcome and the texts of the failures if outcomes differ, otherwise ""."""
    ranks_of: dict[str, list[int]] = {}
    texts = []
    for rank, (outcome, text) in enumerate(outcomes):
        ranks_of.setdefault(outcome, []).append(rank)
        if text:
            texts.append(f"failed on rank {rank}:\n{text}")
    if len(ranks_of) == 1:
        return ""
    summary = ", ".join(f"{outcome} on {_name(ranks)}" for outcome, ranks in sorted(ranks_of.items()))
    return "\n".join([f"ranks disagree: {summary}", *texts])


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
