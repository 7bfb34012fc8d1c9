"""The same bits from every instruction set and every number of threads."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from exact.bits import same_bits
from syncbn import functional as F
from syncbn._core import kernels, threads

SHAPES = [(5, 19, 6, 7), (33, 130), (2, 3, 1000)]
SCALES = {"float32": [1.0], "float64": [1.0, 1e-155, 1e-158]}
"""Squares of the small ones underflow."""


def results(rng_seed, shape, dtype, scale):
    """Forward and backward of batch normalization, in both memory orders, with and without a mask."""
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


DIGESTS = {
    "float16": {"exact": "23a5632ba48e2cd0", "float64": "a7673dcc50d06f92"},
    "float32": {"exact": "9760bcadf715d0fc", "float64": "79252dbb809858d7"},
    "float64": {"exact": "00527318a3f97aa2", "float64": "ae3e14c063f568f0"},
}
"""Of results on any processor: x86-64 and 64-bit Arm."""


@pytest.mark.skipif(kernels.which == "reference", reason="twins are as exact, but do not round alike")
@pytest.mark.parametrize("dtype", DIGESTS)
@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_bits_are_those_of_other_processors(dtype, reduction):
    """Inputs are made without a mathematical library, whose last bits differ."""
    rng = np.random.default_rng(3)
    digest = hashlib.blake2b(digest_size=8)
    for shape in SHAPES:
        x, dy = (rng.integers(-(2**10), 2**10, (2, *shape)) / 2**7).astype(dtype)
        weight, bias = (rng.integers(1, 2**8, (2, shape[1])) / 2**6).astype(dtype)
        y, moments, backward = F.batch_norm(x, weight, bias, reduction=reduction, relu=True)
        for array in (y, moments.mean, moments.var, *backward(dy)):
            digest.update(array.tobytes())
    assert digest.hexdigest() == DIGESTS[dtype][reduction]


def test_threads_come_from_the_environment(monkeypatch, tmp_path):
    limit = threads.thread_limit.__wrapped__  # without what was found before
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
    assert threads.threads_for(threads.LEAST_BYTES - 1) == 1
