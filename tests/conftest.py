"""Hypothesis profiles and random numbers, which are equal on all ranks. `harness` runs the tests on ranks."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from syncbn.cli.ranks import under_mpiexec

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras's own default is TensorFlow

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
if under_mpiexec():
    settings.register_profile(
        "ranks",
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # shrinking could take another path on the rank that failed
        report_multiple_bugs=False,
    )
    settings.load_profile("ranks")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Import the harness now, when stderr is not captured, and before pytest constructs its reporters."""
    config.pluginmanager.import_plugin("harness.plugin")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random number generator seeded with the test's name, so that all ranks draw the same numbers."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
