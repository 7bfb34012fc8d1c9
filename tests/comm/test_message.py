"""The first message of every call: compiled, its twin, and ranks of which some have the one and some the other."""
# ruff: noqa: N802 (names of mpi4py)

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from syncbn._core.message import ROOM
from syncbn._kernels import message as compiled
from syncbn.comm import Call
from syncbn.reference import message as twin

CALL = Call("forward", "SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")
NOTHING = np.empty(0)


@pytest.fixture(params=["compiled", "twin", "both"])
def kinds(request):
    """The class of each rank in turn."""
    both = [compiled.FirstMessage, twin.FirstMessage]
    return {"compiled": both[:1], "twin": both[1:], "both": both}[request.param]


def written(kinds, rank, *, call=CALL, number=7, forward_number=0, failed=False, maxima=NOTHING):
    """The first message of a rank, and whether its words fit."""
    message = kinds[rank % len(kinds)]()
    message.write(CALL.digest, 3, 2, True, np.full(ROOM, 300.0))  # a message before must leave no trace
    return message, message.write(call.digest, number, forward_number, failed, maxima)


def combine(*messages):
    """What MAX leaves in every rank's buffer."""
    combined = np.maximum.reduce([message.buffer for message in messages])
    for message in messages:
        message.buffer[...] = combined


@pytest.mark.parametrize("size", [0, 5, ROOM, ROOM + 1])
def test_messages_of_agreeing_ranks_bring_the_maxima(kinds, size):
    rng = np.random.default_rng(size)
    maxima = rng.standard_normal((3, size))
    expected = maxima.max(axis=0)
    messages, fit = zip(*(written(kinds, rank, maxima=m) for rank, m in enumerate(maxima)), strict=True)
    assert len({m.buffer.size for m in messages}) == 1
    assert set(fit) == {size <= ROOM}
    combine(*messages)
    for message, own in zip(messages, maxima, strict=True):
        assert message.agrees()
        if fit[0]:
            message.read(own)
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("other", [{"number": 8}, {"forward_number": 1}, {"call": replace(CALL, channels=3)}])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_a_difference_is_seen_on_every_rank(kinds, other, ranks):
    messages = [written(kinds, rank, **(other if rank == ranks - 1 else {}))[0] for rank in range(ranks)]
    combine(*messages)
    assert not any(message.agrees() for message in messages)


@pytest.mark.parametrize("culprits", [{1}, {0, 1, 2}])
def test_a_failed_rank_is_seen_on_every_rank(kinds, culprits):
    messages = [written(kinds, rank, failed=rank in culprits)[0] for rank in range(3)]
    combine(*messages)
    assert not any(message.agrees() for message in messages)


def test_maxima_may_be_written_in_place(kinds):
    message = kinds[0]()
    room = message.room(3)
    room[...] = 1.0, 2.0, 3.0
    assert message.write(CALL.digest, 1, 0, False, room)
    assert np.array_equal(message.room(3), [1.0, 2.0, 3.0])
    assert message.room(ROOM).size == ROOM
    assert message.room(ROOM + 1) is None
    message.buffer[-ROOM] = 5.0
    message.read(room)
    assert room[0] == 5.0


@pytest.mark.parametrize("array", [np.zeros(4, np.float32), np.zeros(8)[::2]])
def test_the_compiled_one_takes_words_alone(array):
    with pytest.raises(TypeError, match="contiguous float64"):
        compiled.FirstMessage().write(CALL.digest, 1, 0, False, array)


class Slow:
    """An MPI communicator, and its request, that comes to its end at the n-th test."""

    def __init__(self, tests: int, *, plans: bool = True) -> None:
        self.tests, self.plans, self.asked, self.started, self.freed = tests, plans, 0, 0, 0

    def Allreduce_init(self, *arguments: object) -> Slow:
        if not self.plans:
            raise NotImplementedError
        self.arguments = arguments
        return self

    def Iallreduce(self, *arguments: object) -> Slow:
        self.arguments = arguments
        self.started += 1
        return self

    def Start(self) -> None:
        self.started += 1

    def Test(self) -> bool:
        self.asked += 1
        return self.asked >= self.tests

    def Free(self) -> None:
        self.freed += 1


@pytest.fixture(params=[compiled, twin])
def planned(request):
    return request.param.PlannedMessage


def test_a_planned_message_is_asked_for_its_end_some_times(planned):
    buffer = np.zeros(3)
    for tests in (1, twin.TESTS, twin.TESTS + 1):
        slow = Slow(tests)
        message = planned(buffer, slow, "in place", "max")
        request = message.send()
        assert slow.arguments[0] == "in place"
        assert slow.arguments[1] is buffer is message.buffer
        assert slow.arguments[2] == "max"
        assert (request, slow.asked) == ((None, tests) if tests <= twin.TESTS else (slow, twin.TESTS))
        message.send()
        assert slow.started == 2
        message.free()
        assert slow.freed == 1


def test_before_mpi_4_a_planned_message_is_an_ordinary_one(planned):
    slow = Slow(1, plans=False)
    message = planned(np.zeros(3), slow, "in place", "max")
    assert message.send() is message.send() is slow
    assert (slow.started, slow.asked) == (2, 0)
    message.free()
    assert slow.freed == 0
