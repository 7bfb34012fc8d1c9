"""What every test may ask for: the ranks, and numbers that are the same on all of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness.world import RANKS
from hypothesis import HealthCheck, Phase, settings

from syncbn.comm import Communicator, MPIComm, SerialComm

# All ranks must draw the same examples, so nothing may depend on chance, on time or on a database.
settings.register_profile(
    "one process",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "ranks",
    settings.get_profile("one process"),
    phases=[Phase.explicit, Phase.generate],  # shrinking may go another way on the rank that failed
    report_multiple_bugs=False,
)
settings.register_profile("long", settings.get_profile("one process"), max_examples=500, derandomize=False)
settings.load_profile("ranks" if RANKS else os.environ.get("SYNCBN_HYPOTHESIS", "one process"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests marked ``ranks`` for tests/run.py's runs on ranks, and the others for one process."""
    here: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        here[(item.get_closest_marker("ranks") is not None) == bool(RANKS)].append(item)
    config.hook.pytest_deselected(items=here[False])
    items[:] = here[True]


@pytest.fixture(scope="session")
def comm() -> Iterator[Communicator]:
    """All ranks of this run; one process is a world of its own."""
    with MPIComm() if RANKS else SerialComm() as communicator:
        yield communicator


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone, so they are the same on all ranks."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def shared_path(tmp_path: Path, comm: Communicator) -> Path:
    """An empty directory, the same on all ranks (``tmp_path`` is another on each)."""
    return comm.allgather(tmp_path)[0]
