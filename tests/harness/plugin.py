"""A pytest plugin that runs the tests marked ``ranks`` under mpiexec or torchrun, and all others in one process.

Import it when stderr is not captured (``-p harness.plugin``, or in ``pytest_configure``), because MPI and the watchdog
write to stderr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.world import COMM, RANKS, TorchWorld
from syncbn.cli import completion
from syncbn.comm import Communicator, MPIComm, SerialComm

REASONS = {
    True: "a test of one process; run it without mpiexec: python -m pytest",
    False: "a test of ranks; run it under mpiexec: mpiexec -n 2 python -m pytest",
}
"""Why a test is skipped, by whether this run is one on ranks."""

_reports = os.environ.pop(completion.VARIABLE, None)  # not for commands that tests start


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ranks: runs under mpiexec, on any number of ranks, and not in one process")
    if RANKS:
        config.pluginmanager.import_plugin("harness.agreement")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    on_ranks = bool(RANKS)
    if (item.get_closest_marker("ranks") is not None) != on_ranks:
        pytest.skip(REASONS[on_ranks])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail if all tests were skipped, and record the exit status for tests/run.py.

    The exit code of mpiexec can be 0 although a rank called ``os._exit(0)``.
    """
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if exitstatus == pytest.ExitCode.OK and "skipped" in stats and not stats.keys() & {"passed", "xfailed", "xpassed"}:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    if _reports is not None:
        os.environ[completion.VARIABLE] = _reports
        completion.report(int(session.exitstatus))
        del os.environ[completion.VARIABLE]


@pytest.fixture(scope="session")
def comm() -> Iterator[Communicator]:
    """Communicator of all ranks of this run, or of this process alone."""
    with _communicator() as communicator:
        yield communicator


def _communicator() -> Communicator:
    if isinstance(COMM, TorchWorld):
        from syncbn.torch import TorchComm

        return TorchComm()
    return MPIComm() if RANKS else SerialComm()


@pytest.fixture
def shared_path(tmp_path: Path, comm: Communicator) -> Path:
    """Empty directory that all ranks share, whereas ``tmp_path`` differs between ranks."""
    return comm.allgather(tmp_path)[0]
