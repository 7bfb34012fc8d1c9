"""A pytest plugin that keeps ranks together: a test has one outcome, the same on all of them.

After the setup, the call and the teardown of every test the ranks exchange their outcomes, and a rank
whose own part passed fails where another's did. So no rank runs ahead into the next test, and every
rank counts the same. Where they can't come together (a rank waits for a collective that another never
calls), the watchdog ends the run with the stacks of all ranks.
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
from harness.world import COMM, RANK, RANKS, tell

T = TypeVar("T")

SESSION_SECONDS = 50.0
"""For what is not a test: the collection, and the way out."""

watchdog = Watchdog(f"rank {RANK} of {RANKS}", tell)
watchdog.arm(SESSION_SECONDS, "collection")


class OtherRankFailedError(Exception):
    """Raised in an example that passed on this rank and failed on another."""


def exchange(place: str, value: T) -> list[T]:
    """Return all ranks' values; end the run if the ranks are not all at the same place. Collective."""
    answers: list[tuple[str, T]] = COMM.allgather((place, value))
    places = {rank: other for rank, (other, _) in enumerate(answers)}
    if any(other != place for other in places.values()):
        tell(f"rank {RANK}: the ranks have come apart: {places}\n{watchdog.failure}")
        COMM.Barrier()  # every rank has written its line
        os._exit(1)
    return [answer for _, answer in answers]


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
        watchdog.arm(SESSION_SECONDS, f"what follows {item.nodeid}")


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Take the place of pytest-timeout's timer; its settings and markers hold."""
    watchdog.arm(settings.timeout, item.nodeid)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> bool:
    """Keep the deadline: pytest-timeout would cancel it after a failure, when teardown is still to come."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make the report of one phase the same on all ranks."""
    report = yield
    watchdog.failure = report.longreprtext if report.failed else ""
    answers = exchange(f"{call.when} of {item.nodeid}", (outcome_of(report), watchdog.failure[-4000:]))
    watchdog.failure = ""
    if disagreement := _disagreement(answers):
        if not report.failed:
            report.outcome = "failed"
            report.longrepr = disagreement
        else:
            report.sections.append(("all ranks", disagreement.splitlines()[0]))
    return report


def _disagreement(answers: Iterable[tuple[str, str]]) -> str:
    """Return who did what where outcomes differ, with the failures' texts; "" where they agree."""
    ranks_of: dict[str, list[int]] = {}
    texts = []
    for rank, (outcome, text) in enumerate(answers):
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
    """Exchange outcomes after every hypothesis example too: one that fails is replayed on all ranks or none."""
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is not None and not hasattr(handle.inner_test, "agreed"):
        handle.inner_test = _agreed(handle.inner_test, item.nodeid)


def _agreed(example: Callable[..., None], name: str) -> Callable[..., None]:
    @functools.wraps(example)
    def agreed(*args: Any, **kwargs: Any) -> None:
        error: BaseException | None = None
        try:
            example(*args, **kwargs)
        except BaseException as caught:  # hypothesis ends rejected examples with exceptions of its own
            error = caught
        answers = exchange(f"an example of {name}", "" if error is None else f"{type(error).__name__}: {error}"[:4000])
        if error is not None:
            raise error
        if any(answers):
            raise OtherRankFailedError(f"this example failed elsewhere: {dict(enumerate(answers))}")

    agreed.agreed = True
    return agreed


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave together: a rank that exits with a failure ends the others before they have reported."""
    watchdog.arm(10.0, "the way out")
    exchange("the way out", None)
    watchdog.disarm()
