"""Communicators in one process."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest

from syncbn import MPIComm, SerialComm, SyncError, SyncLostRankError, SyncMismatchError, SyncTimeoutError
from syncbn.comm import as_communicator
from syncbn.comm.signature import layer_signature

FIELDS = ("SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")


def test_a_signature_is_cached():
    assert layer_signature(*FIELDS) is layer_signature(*FIELDS)
    assert layer_signature(*FIELDS).backward is layer_signature(*FIELDS).backward


def test_one_process_is_a_communicator_like_any_other():
    comm = SerialComm()
    array = np.arange(3.0)
    comm.allreduce(array)
    comm.broadcast(array)
    comm.barrier()
    np.testing.assert_array_equal(array, np.arange(3.0))
    assert comm.allgather("x") == ["x"]
    assert (comm.rank, comm.size, comm.bytes_sent) == (0, 1, 0)
    assert comm.split(2).size == 1
    protocol = comm._protocol
    assert [protocol.register_layer("A"), protocol.register_layer("B")] == ["A #1", "B #2"]
    number = protocol.handshake(layer_signature(*FIELDS))
    assert protocol.handshake(layer_signature(*FIELDS)) == number + 1
    with pytest.raises(ValueError, match="bad"), protocol.collective_errors(layer_signature(*FIELDS)):
        raise ValueError("bad")
    with pytest.raises(ValueError, match="group_size must be at least 1, got 0"):
        comm.split(0)
    with pytest.raises(TypeError, match=r"group_size must be an integer, got 1\.0"):
        comm.split(1.0)
    assert copy.deepcopy(comm).size == pickle.loads(pickle.dumps(comm)).size == 1


def test_as_communicator():
    comm = SerialComm()
    assert as_communicator(comm) is comm
    assert as_communicator(None).size == 1
    with pytest.raises(TypeError, match=r"comm must be None, an mpi4py .* got 3"):
        as_communicator(3)


def test_an_object_that_is_no_communicator_is_named_without_mpi4py_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(TypeError, match=r"comm must be None, an mpi4py .* got 0\.5"):
        as_communicator(0.5)


def test_the_public_interface():
    """Everything else is private."""
    public = {name for name in dir(SerialComm()) if not name.startswith("_")}
    assert public == {
        *("rank", "size", "timeout", "bytes_sent"),
        *("allreduce", "exact_sum", "broadcast", "allgather", "barrier", "split", "free"),
    }
    assert public == {name for name in dir(MPIComm) if not name.startswith("_")}


@pytest.mark.parametrize("error", [SyncMismatchError, SyncLostRankError, SyncTimeoutError])
def test_sync_error_is_the_base_class_of_all(error):
    assert issubclass(error, SyncError)


def test_an_object_of_allgather_that_cannot_be_pickled():
    with pytest.raises(TypeError, match=r"an object that pickle can copy, got function <lambda>: .*pickle"):
        SerialComm().allgather(lambda: 3)


@pytest.mark.parametrize(("comm", "shown"), [(SerialComm, "class SerialComm"), (sys, "module sys")])
def test_a_class_or_a_module_in_place_of_a_communicator(comm, shown):
    with pytest.raises(TypeError, match=f"comm must be None, .* got {shown}"):
        as_communicator(comm)
