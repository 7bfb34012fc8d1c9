"""Communicators and their messages, in one process."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from syncbn import SerialComm
from syncbn.comm import Call, as_communicator, call_of

CALL = Call("forward", "SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")


@pytest.mark.parametrize(
    "other",
    [
        {"direction": "backward"},
        {"layer": "SyncBatchNorm #2"},
        {"channels": 65},
        {"dtype": "float64"},
        {"reduction": "float64"},
        {"eps": np.nextafter(1e-5, 1)},
        {"affine": "weight"},
    ],
)
def test_every_field_of_a_call_changes_its_digest(other):
    changed = replace(CALL, **other)
    assert CALL.digest != changed.digest
    assert CALL.digest == replace(CALL).digest
    (difference,) = CALL.differences(changed)
    assert difference.startswith(next(iter(other)))


def test_a_call_is_found_again():
    found = call_of("forward", "SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")
    assert found == CALL
    assert call_of("forward", "SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias") is found
    assert found.backward is found.backward
    assert found.backward == replace(CALL, direction="backward")


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
    assert [comm.register_layer("A"), comm.register_layer("B")] == ["A #1", "B #2"]
    assert [comm.agree(CALL), comm.agree(CALL)] == [1, 2]
    with pytest.raises(ValueError, match="bad"):
        comm.agree(CALL, error=ValueError("bad"))
    with pytest.raises(ValueError, match="group_size must be at least 1, got 0"):
        comm.split(0)
    with pytest.raises(TypeError, match=r"group_size must be an integer, got 1\.0"):
        comm.split(1.0)
    assert copy.deepcopy(comm).size == pickle.loads(pickle.dumps(comm)).size == 1


def test_what_stands_for_a_communicator():
    comm = SerialComm()
    assert as_communicator(comm) is comm
    assert as_communicator(None).size == 1
    with pytest.raises((TypeError, ImportError), match=r"comm must be None, an mpi4py|mpi4py"):
        as_communicator(3)
