"""Fixtures and hypothesis profiles of all tests: the ranks, and random numbers that are equal on all of them."""

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
    "normal",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("normal"), max_examples=5)
settings.register_profile("long", settings.get_profile("normal"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("SYNCBN_HYPOTHESIS", "normal"))
if RANKS:
    settings.register_profile(
        "ranks",
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # shrinking could take another path on the rank that failed
        report_multiple_bugs=False,
    )
    settings.load_profile("ranks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests marked ``ranks`` in runs on ranks, and all others in one process."""
    here: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        here[(item.get_closest_marker("ranks") is not None) == bool(RANKS)].append(item)
    config.hook.pytest_deselected(items=here[False])
    items[:] = here[True]


@pytest.fixture(scope="session")
def comm() -> Iterator[Communicator]:
    """Communicator of all ranks of this run, or of this process alone."""
    with MPIComm() if RANKS else SerialComm() as communicator:
        yield communicator


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random number generator seeded with the test's name, so that all ranks draw the same numbers."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def shared_path(tmp_path: Path, comm: Communicator) -> Path:
    """Empty directory that all ranks share, whereas ``tmp_path`` differs between ranks."""
    return comm.allgather(tmp_path)[0]
