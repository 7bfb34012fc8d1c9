"""MPIComm on several ranks."""

from __future__ import annotations

import time

import numpy as np
import pytest

from syncbn import MPIComm, SyncTimeoutError
from syncbn import functional as F

pytestmark = pytest.mark.ranks


def test_collectives(comm):
    ranks = np.arange(comm.size)
    for op, expected in (("sum", ranks.sum()), ("min", 0), ("max", comm.size - 1)):
        array = np.full(3, comm.rank, np.int64)
        comm.allreduce(array, op)
        np.testing.assert_array_equal(array, expected)
    for root in ranks:
        array = np.full(5, comm.rank, np.float32)
        comm.broadcast(array, int(root))
        np.testing.assert_array_equal(array, root)
    assert comm.allgather({"rank": comm.rank}) == [{"rank": r} for r in ranks]
    comm.barrier()


def test_bytes_sent_are_counted(comm):
    before = comm.bytes_sent
    comm.allreduce(np.zeros(10, np.float64))
    assert comm.bytes_sent - before == 80


@pytest.mark.parametrize("group_size", [1, 2, 3, 10])
def test_split_makes_groups_of_consecutive_ranks(comm, group_size):
    with comm.split(group_size) as group:
        first = comm.rank // group_size * group_size
        assert (group.rank, group.size) == (comm.rank - first, min(group_size, comm.size - first))
        members = np.zeros(comm.size, np.int64)
        members[comm.rank] = 1
        group.allreduce(members)
        assert np.flatnonzero(members).tolist() == list(range(first, first + group.size))
    with pytest.raises(ValueError, match="group_size"):
        comm.split(0)


def test_what_is_no_communicator_is_refused(comm):
    with pytest.raises(TypeError, match="must be an mpi4py intracommunicator, got str"):
        MPIComm("world")
    with pytest.raises(ValueError, match="timeout must be positive"):
        MPIComm(timeout=0)
    with pytest.raises(TypeError, match="comm must be None, an mpi4py intracommunicator or a syncbn communicator"):
        F.batch_norm(np.ones((2, 2)), comm="world")
    comm.barrier()


def test_a_freed_communicator_says_so(comm):
    own = MPIComm()
    assert own.size == comm.size
    own.free()
    for call in (own.barrier, lambda: own.allreduce(np.zeros(1)), lambda: own.allgather(1), lambda: own.split(1)):
        with pytest.raises(ValueError, match="the communicator was freed: make a new MPIComm"):
            call()


def test_a_timeout_names_call_and_layer_and_closes_the_communicator(comm):
    if comm.size == 1:
        pytest.skip("one rank waits for nobody")
    own = MPIComm(timeout=0.5)
    x = np.ones((2, 3)) * np.arange(2)[:, None]
    late = comm.size - 1
    F.batch_norm(x, comm=own, name="first")
    if comm.rank == late:
        time.sleep(1.5)
        own.timeout = 2.0  # meets the header that the others have sent, then waits for sums that never come
        with pytest.raises(SyncTimeoutError, match=r"waited more than 2 s in call 2, forward of second|allreduce"):
            F.batch_norm(x, comm=own, name="second")
    else:
        with pytest.raises(SyncTimeoutError, match=r"waited more than 0\.5 s in call 2, forward of second"):
            F.batch_norm(x, comm=own, name="second")
    with pytest.raises(ValueError, match="closed by a timeout in call 2"):
        F.batch_norm(x, comm=own)
    comm.barrier()


def test_a_deadline_that_is_kept_changes_nothing(comm, rng):
    x = rng.standard_normal((2 * comm.size, 600))
    mine = slice(2 * comm.rank, 2 * comm.rank + 2)
    own = MPIComm(timeout=30)
    y, _, backward = F.batch_norm(x[mine], comm=own)
    np.testing.assert_array_equal(y, F.batch_norm(x)[0][mine])
    assert backward(x[mine])[0].shape == y.shape
    own.free()
