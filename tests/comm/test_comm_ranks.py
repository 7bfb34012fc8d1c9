"""MPIComm on several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from mpi4py import MPI

from syncbn import MPIComm, SyncLostRankError, SyncTimeoutError
from syncbn import functional as F
from syncbn.comm import as_communicator
from syncbn.comm.liveness import shutdown
from syncbn.comm.mpi_transport import MPITransport
from syncbn.comm.protocol import HANDSHAKE_BYTES
from syncbn.comm.signature import CollectiveSignature, layer_signature
from syncbn.comm.transport import Transport

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


def test_a_call_that_was_broken_off_closes_the_communicator():
    """Whatever is called next would match the message that is missing."""
    for use in (MPIComm.barrier, MPIComm.free):
        comm = MPIComm()
        comm._protocol.handshake(layer_signature("test", 3, "float32", "exact", 0.0, "none"))
        if use is MPIComm.free:
            comm.free()
        with pytest.raises(ValueError, match="interrupted call 1, forward of test"):
            comm.barrier()


def test_a_split_that_fails_leaves_the_communicator_as_it_was(monkeypatch):
    with MPIComm() as comm:
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise MemoryError

            patch.setattr(comm._protocol.transport, "split", fail)
            with pytest.raises(MemoryError):
                comm.split(1)
        comm.barrier()


def test_bytes_sent_are_counted(comm):
    before = comm.bytes_sent
    comm.allreduce(np.zeros(10, np.float64))
    assert comm.bytes_sent - before == HANDSHAKE_BYTES + 80
    comm._protocol.sum(np.zeros(10, np.float64))
    assert comm.bytes_sent - before == HANDSHAKE_BYTES + 160


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("size", [1, 245, 246, 40_000])
def test_messages_of_any_size(comm, monkeypatch, size, persistent):
    """Persistent requests are used, or not, as before MPI 4.0."""
    with MPIComm() as own:
        protocol = own._protocol
        if not persistent:
            monkeypatch.setattr(
                protocol.transport, "persistent_allreduce", partial(Transport.persistent_allreduce, protocol.transport)
            )
        signature = layer_signature("test", size, "float32", "exact", 0.0, "none")
        for step in range(3):
            values = protocol.max_buffer(size)
            values[:] = np.arange(size) + comm.rank + step
            protocol.handshake(signature, values)
            np.testing.assert_array_equal(values, np.arange(size) + comm.size - 1 + step)
            for dtype in (np.dtype(np.int64), np.dtype(np.float64)):
                sums = protocol.sum_buffer(size, dtype)
                sums[:] = comm.rank + step
                protocol.sum(sums)
                np.testing.assert_array_equal(sums, comm.size * step + sum(range(comm.size)))


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


def test_other_objects_than_communicators_are_refused(comm):
    with pytest.raises(TypeError, match="must be an mpi4py intracommunicator, got 'world'"):
        MPIComm("world")
    with pytest.raises(ValueError, match="timeout must be positive"):
        MPIComm(timeout=0)
    with pytest.raises(ValueError, match="timeout must be positive seconds or None, got 'soon'"):
        comm.timeout = "soon"
    with pytest.raises(TypeError, match="comm must be None, an mpi4py intracommunicator or a syncbn communicator"):
        F.batch_norm(np.ones((2, 2)), comm="world")
    comm.barrier()


def test_a_freed_communicator_raises(comm):
    own = MPIComm()
    assert own.size == comm.size
    own.free()
    for call in (own.barrier, lambda: own.allreduce(np.zeros(1)), lambda: own.allgather(1), lambda: own.split(1)):
        with pytest.raises(ValueError, match="freed"):
            call()


def test_a_timeout_names_call_and_layer_and_closes_the_communicator(comm):
    if comm.size == 1:
        pytest.skip("one rank waits for nobody")
    own = MPIComm()
    x = np.ones((2, 3)) * np.arange(2)[:, None]
    late = comm.size - 1
    F.batch_norm(x, comm=own, name="first")
    own.timeout = 0.3  # not of the first call, for which a busy machine may need longer
    if comm.rank == late:
        time.sleep(1)
        # Matches the handshake that the others have sent, then waits for sums that are never sent.
        with pytest.raises(SyncLostRankError, match=r"in call 2, forward of second .* rank 0 closed the communicator"):
            F.batch_norm(x, comm=own, name="second")
        closed = "closed by SyncLostRankError in call 2, forward of second"
    else:
        text = rf"waited more than 0\.3 s in call 2, forward of second .* rank {late} has not entered it"
        with pytest.raises(SyncTimeoutError, match=text):
            F.batch_norm(x, comm=own, name="second")
        closed = "closed by SyncTimeoutError in call 2, forward of second"
    for call in (own.barrier, lambda: F.batch_norm(x, comm=own)):
        with pytest.raises(ValueError, match=closed):
            call()
    own.free()  # nothing to do
    comm.barrier()


def test_a_wrapper_lives_as_long_as_its_mpi_communicator(comm):
    """Others would be left behind: their number is limited."""
    x = np.arange(6.0).reshape(3, 2)
    theirs = MPI.COMM_WORLD.Dup()
    F.batch_norm(x, comm=theirs)
    communicators = len(shutdown._open)
    assert as_communicator(theirs) is as_communicator(theirs)
    as_communicator(theirs).free()
    F.batch_norm(x, comm=theirs)  # makes another
    assert len(shutdown._open) == communicators
    theirs.Free()
    for _ in range(3):
        other = MPI.COMM_WORLD.Dup()
        F.batch_norm(x, comm=other)
        other.Free()
    assert len(shutdown._open) == communicators - (comm.size > 1)
    comm.barrier()


def test_a_communicator_that_an_exception_leaves_is_closed_without_waiting(comm):
    with pytest.raises(ZeroDivisionError), MPIComm() as own:
        1 / 0  # noqa: B018
    with pytest.raises(ValueError, match="the communicator was closed by ZeroDivisionError"):
        own.barrier()
    comm.barrier()


def test_long_waits_that_end_are_no_error(comm):
    """Ranks enter one after the other, each later than the first poll, in calls of two communicators."""
    with MPIComm() as first, MPIComm() as second:
        for own in (first, second, first):
            time.sleep(0.25 * comm.rank)
            own.barrier()
            if comm.rank == 0:
                time.sleep(0.35)


def test_a_long_wait_leaves_the_core_to_others(comm):
    """The time is that of the processor, which a rank takes whatever the machine does besides."""
    with MPIComm() as own:
        own.barrier()
        if comm.rank == 0:
            time.sleep(2)
        used = time.process_time()
        own.barrier()
        assert time.process_time() - used < 0.2


def test_a_deadline_that_is_kept_changes_nothing(comm, rng):
    x = rng.standard_normal((2 * comm.size, 600))
    mine = slice(2 * comm.rank, 2 * comm.rank + 2)
    own = MPIComm(timeout=30)
    y, _, backward = F.batch_norm(x[mine], comm=own)
    np.testing.assert_array_equal(y, F.batch_norm(x)[0][mine])
    assert backward(x[mine])[0].shape == y.shape
    own.free()


def test_a_group_without_this_rank_is_refused(comm):
    group = MPI.COMM_WORLD.Split(0 if comm.rank == 0 else MPI.UNDEFINED)
    if comm.rank == 0:
        group.Free()
    for make in (MPIComm, lambda null: F.batch_norm(np.ones((3, 2)), comm=null)):
        with pytest.raises(ValueError, match=r"MPI\.COMM_NULL: this process does not belong to the group"):
            make(group)


@pytest.mark.usefixtures("comm")
def test_buffers_are_kept_for_a_limited_number_of_widths():
    """The widths beyond it are summed without memory of their own, to the same values."""
    with MPIComm() as own:
        for width in range(1, 200):
            array = np.arange(float(width)) + own.rank
            own._protocol.handshake(CollectiveSignature("sum", (("width", width),), has_data=True))
            buffer = own._protocol.sum_buffer(width, np.float64)
            buffer[...] = array
            own._protocol.sum(buffer)
            assert np.array_equal(buffer, own.size * np.arange(float(width)) + sum(range(own.size)))
        if own.size > 1:
            kept = [own._protocol.sum_buffer(width, np.float64) for width in range(1, 200)]
            again = [own._protocol.sum_buffer(width, np.float64) for width in range(1, 200)]
            assert sum(one is other for one, other in zip(kept, again, strict=True)) == 64


def test_two_threads_can_not_use_one_communicator_at_once(comm):
    if comm.size == 1:
        pytest.skip("one rank never waits")
    raised = []

    def interfere(own):
        try:
            own.barrier()
        except RuntimeError as error:
            raised.append(str(error))
        finally:
            for rank in range(1, comm.size):
                MPI.COMM_WORLD.send(None, rank)

    with MPIComm() as own:
        if own.rank == 0:
            other = threading.Timer(0.3, interfere, [own])
            other.start()
            own.barrier()  # the other ranks come later
            other.join()
        else:
            MPI.COMM_WORLD.recv(source=0)
            own.barrier()
        own.barrier()  # the communicator remains usable
        assert own.rank or "two threads use one communicator at once: another thread is in call 1, barrier" in raised[0]


def test_a_fork_of_a_rank_can_not_make_its_calls(comm):
    if comm.size == 1:
        pytest.skip("a communicator of one rank sends nothing")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            comm.barrier()
        except ValueError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read().startswith(f"this process is a fork of rank {comm.rank}, and cannot make its calls")
    os.waitpid(child, 0)
    comm.barrier()


@pytest.mark.parametrize(
    ("prepare", "text"),
    [("MPI.Finalize()", "MPI is finalized already"), ("", "MPI is not initialized: call MPI.Init")],
)
def test_a_communicator_needs_mpi_to_be_initialized(comm, prepare, text):
    if comm.size > 1:
        pytest.skip("in a process of its own")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI_", "MPI"))}
    script = f"""
import mpi4py
mpi4py.rc.initialize = {bool(prepare)}
from mpi4py import MPI
{prepare}
from syncbn import SyncBatchNorm
SyncBatchNorm(3)
"""
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert text in ended.stderr


@pytest.mark.parametrize("make", [MPIComm, lambda: MPIComm().split(2), lambda: MPIComm().split(1)])
def test_dropped_communicators_are_freed_once_all_ranks_have_dropped_them(comm, make):
    """To free one is collective, and garbage is collected at different times on different ranks."""
    held = make()
    transport = held._protocol.transport
    if transport.rank or comm.size == 1:
        held = None
    make()
    assert (transport._comm == MPI.COMM_NULL) == (comm.size == 1)
    held = None
    make()
    assert transport._comm == MPI.COMM_NULL
    assert held is None


class TooMany:
    """A communicator that MPI cannot duplicate, and says so at once or when the operation is tested."""

    def __init__(self, at_once):
        self.at_once = at_once

    def __getattr__(self, name):
        return getattr(MPI.COMM_SELF, name)

    def Idup(self):  # noqa: N802
        if self.at_once:
            raise MPI.Exception(MPI.ERR_OTHER)
        return self, self

    def Test(self):  # noqa: N802
        raise MPI.Exception(MPI.ERR_OTHER)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_of_mpi_while_a_communicator_is_made(at_once):
    with pytest.raises(ValueError, match=r"MPI can't make another communicator \(.+\): free\(\) those .*#too-many"):
        MPITransport(TooMany(at_once), "a group", duplicate=True).open()()
