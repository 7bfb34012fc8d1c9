"""The same bits from every instruction set and every number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import functional as F
from syncbn._dispatch import kernels, threads

SHAPES = [(5, 19, 6, 7), (33, 130), (2, 3, 1000)]


def results(rng_seed, shape, dtype):
    """Forward and backward of batch normalization, in both memory orders, with and without a mask."""
    rng = np.random.default_rng(rng_seed)
    x, dy = (
        rng.standard_normal(shape) * rng.lognormal(0, 9, shape[1]).reshape(-1, *[1] * (len(shape) - 2)) for _ in "ab"
    )
    x, dy, weight = x.astype(dtype), dy.astype(dtype), rng.standard_normal(shape[1]).astype(dtype)
    found = []
    for order in (np.array, lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)):
        for mask in (None, rng.random((shape[0], *shape[2:])) < 0.8):
            y, moments, backward = F.batch_norm(order(x), weight, mask=mask)
            found += [y, moments.mean, moments.var, *backward(order(dy))[:2]]
    return found


@pytest.fixture(params=kernels.available())
def build(request, monkeypatch):
    for name, kernel in vars(kernels.load_kernels(request.param)).items():
        monkeypatch.setattr(kernels.kernels, name, kernel)
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_build_and_number_of_threads_gives_the_same_bits(shape, dtype, build, monkeypatch):
    assert kernels.kernels.batch_forward is kernels.load_kernels(build).batch_forward
    monkeypatch.setattr(threads, "LEAST_BYTES", 0)
    monkeypatch.setattr(threads, "thread_limit", lambda: 1)
    one = results(7, shape, dtype)
    monkeypatch.setattr(threads, "thread_limit", lambda: 2)
    assert threads.threads_for(1) == 2
    two = results(7, shape, dtype)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    digest = hash(b"".join(np.ascontiguousarray(a).tobytes() for a in one))
    assert DIGESTS.setdefault((shape, dtype), (build, digest))[1] == digest, (
        f"{build} against {DIGESTS[shape, dtype][0]}"
    )


DIGESTS: dict[tuple, tuple[str, int]] = {}
"""What the first build gave, for each case."""


def test_threads_come_from_the_environment(monkeypatch):
    limit = threads.thread_limit.__wrapped__  # without what was found before
    for name in (*threads.LOCAL_RANKS, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)))
    assert limit() == 8
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")
    assert limit() == 2
    monkeypatch.setenv("MPI_LOCALNRANKS", "20")
    assert limit() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert limit() == 5
    assert threads.threads_for(threads.LEAST_BYTES - 1) == 1
