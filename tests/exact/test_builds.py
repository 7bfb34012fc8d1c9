"""Equal bits from every instruction set and every number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from exact.bits import same_bits
from syncbn import functional as F
from syncbn._core import kernels, threads
from syncbn._core.environment import SettingError

SHAPES = [(5, 19, 6, 7), (33, 130), (2, 3, 1000)]
SCALES = {"float32": [1.0], "float64": [1.0, 1e-155, 1e-158]}
"""The squares of the small scales underflow."""


def results(rng_seed, shape, dtype, scale):
    """Return the results of forward and backward in both memory orders, with and without a mask."""
    rng = np.random.default_rng(rng_seed)
    spread = rng.lognormal(0, 9, shape[1]) if scale == 1 else np.full(shape[1], scale)
    x, dy = (rng.standard_normal(shape) * spread.reshape(-1, *[1] * (len(shape) - 2)) for _ in "ab")
    x, dy, weight = x.astype(dtype), dy.astype(dtype), rng.standard_normal(shape[1]).astype(dtype)
    found = []
    for order in (np.array, lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)):
        for mask in (None, rng.random((shape[0], *shape[2:])) < 0.8):
            y, moments, backward = F.batch_norm(order(x), weight, mask=mask)
            found += [y, moments.mean, moments.var, *backward(order(dy))[:2]]
    return found


@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype in SCALES for scale in SCALES[dtype]])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_build_and_number_of_threads_gives_the_same_bits(shape, dtype, scale, monkeypatch):
    monkeypatch.setattr(threads, "LEAST_BYTES", 0)
    first = None
    for build in kernels.available():
        for name, kernel in vars(kernels.load_kernels(build)).items():
            monkeypatch.setattr(kernels.kernels, name, kernel)
        for number in (1, 2):
            monkeypatch.setattr(threads, "thread_limit", lambda number=number: number)
            found = results(7, shape, dtype, scale)
            first = first or found
            for a, b in zip(found, first, strict=True):
                assert same_bits(a, b), f"{build} with {number} threads against {kernels.available()[0]} with 1"


def test_threads_come_from_the_environment(monkeypatch, tmp_path):
    limit = threads.thread_limit.__wrapped__  # without its cache
    for name in ("OMP_NUM_THREADS", *threads.LOCAL_RANKS, threads.SLURM_CORES, threads.SLURM_RANKS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)))
    assert limit() == 8
    for quota, cores in (("max 100000", 8), ("250000 100000", 3), ("5000 100000", 1), ("1600000 100000", 8)):
        threads.CGROUP_QUOTA.write_text(quota)
        assert limit() == cores
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    assert limit() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert limit() == 6
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")  # mpiexec within one task
    assert limit() == 2
    monkeypatch.setenv("MPI_LOCALNRANKS", "20")
    assert limit() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert limit() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", " 4 ")
    assert limit() == 4
    assert threads.threads_for(threads.LEAST_BYTES - 1) == 1


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "", "2,x"])
def test_a_number_of_threads_that_is_none_is_an_error_of_a_call(text, monkeypatch):
    x = np.random.default_rng(0).standard_normal((threads.LEAST_BYTES // 8, 2))
    threads.thread_limit.cache_clear()
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(SettingError, match=f"OMP_NUM_THREADS must be a number of threads .* such as 2, got '{text}'"):
        F.batch_norm(x)
    monkeypatch.undo()
    F.batch_norm(x)
