"""Ghost batch normalization whose virtual batches span ranks."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import GhostBatchNorm, SyncMismatchError
from syncbn import functional as F

pytestmark = pytest.mark.ranks


def cut(comm, rng, *shape):
    """Return samples of all ranks, and the share of this one: uneven, and empty on some ranks."""
    edges = np.cumsum([0, *((3 * r + 2) % 5 for r in range(comm.size))])
    x = rng.standard_normal((max(edges[-1], 6), *shape)) * 2 + 1
    edges[-1] = len(x)
    return x, slice(edges[comm.rank], edges[comm.rank + 1])


@pytest.mark.parametrize("size", [2, 5, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_are_those_of_one_process(comm, rng, size, dtype):
    x, own = cut(comm, rng, 3, 2)
    x = x.astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    weight, bias = rng.standard_normal((2, 3)).astype(dtype)
    y, moments, backward = F.ghost_batch_norm(x[own], size, weight, bias, comm=comm)
    whole_y, whole_moments, whole_backward = F.ghost_batch_norm(x, size, weight, bias)
    np.testing.assert_array_equal(y, whole_y[own])
    assert len(moments) == len(whole_moments)
    for one, other in zip(moments, whole_moments, strict=True):
        assert one.count == other.count
        np.testing.assert_array_equal(one.var, other.var)
    found, expected = backward(dy[own], total=True), whole_backward(dy, total=True)
    np.testing.assert_array_equal(found[0], expected[0][own])
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[2], expected[2])
    if size == 100 and len(x[own]):
        assert (comm.size == 1) == np.array_equal(F.ghost_batch_norm(x[own], size, weight, bias)[0], y)


def test_running_statistics_of_layers(comm, rng):
    sync, whole = GhostBatchNorm(3, 4, comm=comm), GhostBatchNorm(3, 4)
    for _ in range(5):
        x, own = cut(comm, rng, 3)
        y, backward = sync(x[own])
        whole_y, whole_backward = whole(x)
        np.testing.assert_array_equal(y, whole_y[own])
        np.testing.assert_array_equal(backward(y), whole_backward(whole_y)[own])
    for name, array in sync.state_dict().items():
        np.testing.assert_array_equal(array, whole.state_dict()[name])
    assert sync.moments.count == len(x)
    sent = comm.bytes_sent
    sync.eval()(x[own])
    assert comm.bytes_sent == sent


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (lambda x, comm: F.ghost_batch_norm(x, 3, comm=comm), "virtual batch"),
        (lambda x, comm: F.ghost_batch_norm(x, 0, comm=comm), "virtual_batch_size must be at least 1"),
        (lambda x, comm: F.ghost_batch_norm(x, 2, np.ones(7), comm=comm), "weight must have shape"),
        (lambda x, comm: F.ghost_batch_norm(x, 2, comm=comm, mask=1), "unexpected keyword"),
        (lambda x, comm: F.ghost_batch_norm(x, 2, comm=comm)[2](x[:1]), "dy must have y's shape"),
        (lambda x, comm: F.ghost_batch_norm(x, 2, comm=comm)[2]([x]), "dy must be a NumPy array"),
    ],
)
def test_a_mistake_of_one_rank_is_an_error_of_all(comm, rng, mistake, text):
    if comm.size == 1:
        pytest.skip("no other rank")
    x = rng.standard_normal((4, 3))

    def right():
        y, _, backward = F.ghost_batch_norm(x, 2, comm=comm)
        backward(y)

    culprit = comm.rank == comm.size - 1
    errors = (ValueError, TypeError, SyncMismatchError) if culprit else SyncMismatchError
    with pytest.raises(errors, match=text):
        mistake(x, comm) if culprit else right()
    right()


def test_parameters_that_change_on_one_rank_before_the_backward_raise_on_all(comm, rng):
    layer, culprit = GhostBatchNorm(3, 2, comm=comm), comm.size - 1
    y, backward = layer(rng.standard_normal((4, 3)))
    if comm.rank == culprit:
        layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError if comm.rank == culprit else SyncMismatchError, match="have changed since"):
        backward(y)
