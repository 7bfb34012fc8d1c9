"""Communicators and their messages, in one process."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from syncbn import SerialComm
from syncbn.comm import Call, as_communicator
from syncbn.comm.message import FIRST_MESSAGE_WORDS, FirstMessage

CALL = Call("forward", "SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")
EMPTY = np.empty(0)


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
        {"forward_number": 1},
    ],
)
def test_every_field_of_a_call_changes_its_header(other):
    changed = replace(CALL, **other)
    assert CALL.header(1) != changed.header(1)
    assert CALL.header(1) == replace(CALL).header(1)
    (difference,) = CALL.differences(changed)
    assert difference.startswith(next(iter(other)))


def test_the_call_number_changes_its_header_and_wraps():
    numbers = {CALL.header(n) for n in (0, 1, 2**20, 2**20 + 1, 2**40 - 1)}
    assert len(numbers) == 5
    assert CALL.header(2**40) == CALL.header(0)


def written(header, maxima, *, failed=False):
    message = FirstMessage()
    message.write(CALL.header(3), np.full(9, 300.0), True)  # a message before must leave no trace
    message.write(header, maxima, failed)
    return message


def combine(*messages):
    """What MAX leaves in every rank's buffer."""
    combined = np.maximum.reduce([message.buffer for message in messages])
    for message in messages:
        message.buffer[...] = combined


@pytest.mark.parametrize("size", [0, 5, FIRST_MESSAGE_WORDS - 11, FIRST_MESSAGE_WORDS])
def test_messages_of_agreeing_ranks_bring_the_maxima(size):
    rng = np.random.default_rng(size)
    maxima = rng.standard_normal((3, size))
    expected = maxima.max(axis=0)
    messages = [written(CALL.header(7), m) for m in maxima]
    assert len({m.buffer.size for m in messages}) == 1
    combine(*messages)
    for message, own in zip(messages, maxima, strict=True):
        assert message.agrees()
        assert message.holds(own) == (size <= FIRST_MESSAGE_WORDS - 11)
        if message.holds(own):
            message.read_maxima(own)
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize(
    "headers",
    [(CALL.header(7), CALL.header(8)), (CALL.header(7), replace(CALL, channels=3).header(7))],
)
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_a_difference_is_seen_on_every_rank(headers, ranks):
    messages = [written(headers[rank == ranks - 1], EMPTY) for rank in range(ranks)]
    combine(*messages)
    assert not any(message.agrees() for message in messages)


def test_a_failed_rank_is_seen_on_every_rank():
    messages = [written(CALL.header(7), EMPTY, failed=rank == 1) for rank in range(3)]
    combine(*messages)
    assert not any(message.agrees() for message in messages)


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
    assert [comm.agree(CALL, EMPTY), comm.agree(CALL, EMPTY)] == [1, 2]
    with pytest.raises(ValueError, match="bad"):
        comm.agree(CALL, EMPTY, ValueError("bad"))
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
