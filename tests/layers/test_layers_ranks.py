"""SyncBatchNorm on several ranks: running statistics, evaluation, identity, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from syncbn import BatchNorm, MPIComm, SyncBatchNorm, SyncMismatchError
from syncbn.comm import world

pytestmark = pytest.mark.ranks


def parts_of(rng, comm, step):
    """Uneven batches of (n, 4, 3) for each rank; some ranks are empty at some steps."""
    sizes = [(r + step) % (comm.size + 1) for r in range(comm.size)]
    sizes[step % comm.size] += 2
    return [rng.standard_normal((n, 4, 3)) * 2 + rng.standard_normal() for n in sizes]


@pytest.mark.parametrize("momentum", [0.1, None, 0.99])
def test_running_statistics_over_100_uneven_steps_are_those_of_one_process(comm, rng, momentum):
    sync, whole = SyncBatchNorm(4, momentum=momentum, comm=comm), BatchNorm(4, momentum=momentum)
    local = BatchNorm(4, momentum=momentum)
    for step in range(100):
        parts = parts_of(rng, comm, step)
        sync(parts[comm.rank])
        whole(np.concatenate(parts))
        if len(parts[comm.rank]) > 1:
            local(parts[comm.rank])
    np.testing.assert_array_equal(sync.running_mean, whole.running_mean)
    np.testing.assert_array_equal(sync.running_var, whole.running_var)
    assert sync.num_batches_tracked == 100
    same = np.array_equal(local.running_var, whole.running_var)
    assert same == (comm.size == 1)


@pytest.mark.parametrize("options", [{}, {"comm": None}, {"comm": "mpi4py"}], ids=str)
def test_all_ranks_are_the_default(comm, rng, options):
    x = rng.standard_normal((3 * comm.size, 4)).astype(np.float32)
    mine = slice(3 * comm.rank, 3 * comm.rank + 3)
    if options.get("comm"):
        options = {"comm": pytest.importorskip("mpi4py.MPI").COMM_WORLD}
    layer = SyncBatchNorm(4, **options)
    assert layer.comm is world()
    np.testing.assert_array_equal(layer(x[mine])[0], BatchNorm(4)(x)[0][mine])


def test_outputs_and_parameter_gradients_of_training_steps(comm, rng):
    sync, whole = SyncBatchNorm(4, comm=comm, dtype=np.float64), BatchNorm(4, dtype=np.float64)
    for step in range(5):
        parts = parts_of(rng, comm, step)
        edges = np.cumsum([0, *map(len, parts)])
        mine = slice(edges[comm.rank], edges[comm.rank + 1])
        dy = rng.standard_normal((edges[-1], 4, 3))
        y, backward = sync(parts[comm.rank])
        whole_y, whole_backward = whole(np.concatenate(parts))
        np.testing.assert_array_equal(y, whole_y[mine])
        np.testing.assert_array_equal(backward(dy[mine]), whole_backward(dy)[mine])
    for one, other in zip(sync.parameters(), whole.parameters(), strict=True):
        total = one.grad.copy()
        comm.allreduce(total)
        np.testing.assert_allclose(total, other.grad, rtol=1e-12)


def test_evaluation_on_one_rank_alone(comm, rng):
    layer = SyncBatchNorm(4, comm=comm)
    untracked = SyncBatchNorm(4, track_running_stats=False, comm=comm).eval()
    x = rng.standard_normal((3, 4)).astype(np.float32)
    layer(x)
    sent = comm.bytes_sent
    if comm.rank == 0:
        y, backward = layer.eval()(x)
        assert backward(y).shape == x.shape
        np.testing.assert_array_equal(untracked(x)[0], BatchNorm(4)(x)[0])
    assert comm.bytes_sent == sent


def test_layers_in_another_order_raise_on_all(comm, rng):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    first, second = SyncBatchNorm(4, comm=comm), SyncBatchNorm(4, comm=comm)
    x = rng.standard_normal((3, 4)).astype(np.float32)
    with pytest.raises(SyncMismatchError, match=r"layer 'SyncBatchNorm #\d+' against 'SyncBatchNorm #\d+'"):
        (first if comm.rank == 0 else second)(x)
    assert first(x)[0].shape == x.shape


def test_a_wrong_number_of_channels_on_one_rank_raises_on_all_even_without_weights(comm, rng):
    layer = SyncBatchNorm(4, affine=False, comm=comm)
    culprit = comm.size - 1
    x = rng.standard_normal((3, 5 if comm.rank == culprit else 4))
    error = ValueError if comm.rank == culprit else SyncMismatchError
    with pytest.raises(error, match="x must have 4 channels on axis 1"):
        layer(x)


def test_a_layer_on_a_communicator_is_not_copied(comm):
    with MPIComm() as own:
        layer = SyncBatchNorm(3, comm=own)
        for clone in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="state_dict"):
                clone(layer)
        assert own.size == comm.size


def test_a_freed_communicator_says_so(comm):
    own = MPIComm()
    layer = SyncBatchNorm(3, comm=own)
    own.free()
    own.free()
    with pytest.raises(ValueError, match="the communicator was freed"):
        layer(np.ones((2 + comm.rank, 3), np.float32))


@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_parameters_that_change_on_one_rank_before_the_backward_raise_on_all(comm, rng, reduction):
    layer, culprit = SyncBatchNorm(3, comm=comm, reduction=reduction), comm.size - 1
    x = rng.standard_normal((4, 3))
    y, backward = layer(x)
    if comm.rank == culprit:
        layer.load_state_dict(layer.state_dict())
    with pytest.raises(
        RuntimeError if comm.rank == culprit else SyncMismatchError, match="have changed since the forward"
    ):
        backward(y)
    y, backward = layer(x)
    assert backward(y).shape == x.shape
