"""Batch renormalization with the statistics of all ranks."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchRenorm, SyncMismatchError
from syncbn import functional as F
from syncbn.train import update_bn

pytestmark = pytest.mark.ranks


def cut(comm, rng):
    """Return samples of all ranks, and the share of this one: uneven, and empty on some ranks."""
    edges = np.cumsum([0, *((3 * r + 2) % 5 for r in range(comm.size))])
    edges[-1] = max(edges[-1], 8)
    return rng.standard_normal((edges[-1], 3, 2)) * 2 + 1, slice(edges[comm.rank], edges[comm.rank + 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_the_result_is_that_of_one_process(comm, rng, dtype, reduction):
    x, own = cut(comm, rng)
    x, dy = x.astype(dtype), rng.standard_normal(x.shape).astype(dtype)
    mean, var, weight, bias = rng.standard_normal(3), rng.random(3), *rng.standard_normal((2, 3))
    options = {"r_max": 1.5, "d_max": 0.7, "reduction": reduction}
    y, moments, backward = F.batch_renorm(x[own], mean, var, weight, bias, comm=comm, **options)
    whole_y, whole_moments, whole_backward = F.batch_renorm(x, mean, var, weight, bias, **options)
    dx, dweight, dbias = backward(dy[own])
    whole_dx, *whole_gradients = whole_backward(dy)
    same = np.testing.assert_array_equal if reduction == "exact" else close
    for one, other in ((y, whole_y[own]), (dx, whole_dx[own]), (moments.var, whole_moments.var)):
        same(one, other)
    for local, total in zip((dweight, dbias), whole_gradients, strict=True):
        comm.allreduce(local)
        np.testing.assert_allclose(local, total, rtol=1e-9, atol=1e-9)
    alone = F.batch_renorm(x[own], mean, var, weight, bias, **options)[0] if len(y) else y
    assert (comm.size == 1 or len(y) == 0) == np.array_equal(alone, y)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=5e-3 if one.dtype == np.float16 else 1e-5, atol=1e-3)


def test_layers_keep_equal_running_statistics(comm, rng):
    limits = {"r_max": 2.0, "d_max": 1.0}
    sync, whole = BatchRenorm(3, comm=comm, **limits), BatchRenorm(3, **limits)
    for _ in range(4):
        x, own = cut(comm, rng)
        y, backward = sync(x[own])
        whole_y, whole_backward = whole(x)
        np.testing.assert_array_equal(y, whole_y[own])
        np.testing.assert_array_equal(backward(y), whole_backward(whole_y)[own])
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(sync.state_dict()[name], array)
    sent = comm.bytes_sent
    sync.eval()(x[own])
    assert comm.bytes_sent == sent
    update_bn(x, sync.train(), comm)
    np.testing.assert_allclose(sync.running_var, x.var(axis=(0, 2), ddof=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (lambda x, m, comm: F.batch_renorm(x, m, m, r_max=2.0, comm=comm), r"r_max=2\.0"),
        (lambda x, m, comm: F.batch_renorm(x, m, m, r_max=0.5, comm=comm), "r_max must be at least 1"),
        (lambda x, m, comm: F.batch_renorm(x, m[:2], m, comm=comm), "running_mean must have shape"),
        (lambda x, m, comm: F.batch_renorm(x, m, m, comm=comm)[2](x[:1]), "dy must have y's shape"),
    ],
)
def test_a_mistake_of_one_rank_is_an_error_of_all(comm, rng, mistake, text):
    if comm.size == 1:
        pytest.skip("no other rank")
    x, m = rng.standard_normal((4, 3)), np.ones(3)

    def right():
        y, _, backward = F.batch_renorm(x, m, m, comm=comm)
        backward(y)

    culprit = comm.rank == comm.size - 1
    errors = (ValueError, SyncMismatchError) if culprit else SyncMismatchError
    with pytest.raises(errors, match=text):
        mistake(x, m, comm) if culprit else right()
    right()
