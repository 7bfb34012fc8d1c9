"""What a process may know of others on its node, and what a rank concludes from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from syncbn.comm import departure
from syncbn.comm.board import Board
from syncbn.comm.call import NumberedCall, Transfer
from syncbn.comm.errors import SyncLostRankError, SyncTimeoutError
from syncbn.comm.presence import ENDED, IN_ORDER, LOOKS, VANISHED, WAIT, Address, Presence
from syncbn.comm.watch import LOOK_SECONDS, Watch

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="pages are shared on Linux alone")

CHILD = """
import sys
from syncbn.comm.board import Board
from syncbn.comm.presence import Address, Presence
board = Board(1, 2, "world")
board.enter()
board.own.presence.text = "at its post"
print(*board.place, flush=True)
for command in sys.stdin:
    exec(command)
    print("done", flush=True)
"""

BARRIER = NumberedCall(3, Transfer("barrier"))


class Child:
    """Another process, as rank 1 of 2."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1, text=True)
        self.place = tuple(map(int, self.process.stdout.readline().split()))

    def do(self, command: str) -> None:
        self.process.stdin.write(f"own = board.own.presence; {command}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        """Kill it and leave the zombie."""
        self.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.process.kill()
    child.process.communicate()


@pytest.fixture
def board(child: Child) -> Board:
    board = Board(0, 2, "world")
    board.seat(1, child.place)
    return board


def test_another_process_is_read(child, board):
    seat = board.others[1]
    assert (seat.calls, seat.presence.text, seat.presence.ended, board.unseen) == (1, "at its post", "", [])
    board.enter()
    assert board.absent() == []
    board.enter()
    assert board.absent() == [1]
    child.do("board.enter()")
    assert board.absent() == []
    child.do("own.text = 'ä' * 10_000")
    assert set(seat.presence.text) <= {"ä", "\N{REPLACEMENT CHARACTER}"}
    assert len(seat.presence.text) > 100


@pytest.mark.parametrize("change", [{"nonce": 1}, {"descriptor": 0}, {"descriptor": 999}, {"pid": 2**22 + 1}])
def test_what_is_no_page_is_not_believed(child, change):
    *address, word = child.place
    board = Board(0, 2, "")
    board.seat(1, (*Address(*address)._replace(**change), word))
    assert board.others == {}
    assert board.unseen == [1]


def test_a_killed_process_is_seen_before_and_after_its_parent_has_noticed(child, board):
    assert board.lost() == {}
    child.kill()
    assert "was killed" in board.lost()[1]
    child.process.wait()
    assert "was killed" in board.lost()[1]


def test_a_process_that_ended_in_order_was_not_killed(child, board):
    child.do(f"own.words[{ENDED}] = {IN_ORDER}; own.text = 'KeyError: 3'")
    assert board.lost() == {1: "ended with KeyError: 3"}
    child.kill()
    assert not board.others[1].presence.died
    assert board.lost() == {1: "ended with KeyError: 3"}


def test_a_process_that_is_about_to_vanish_is_as_good_as_dead(child, board):
    child.do(f"own.words[{ENDED}] = {VANISHED}")
    assert board.others[1].presence.died
    assert "left by os._exit" in board.lost()[1]


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize(
    ("before", "meanwhile", "left_behind"),
    [
        ("pass", "pass", True),
        ("pass", f"own.words[{ENDED}] = {IN_ORDER}", True),
        ("pass", f"own.words[{ENDED}] = {VANISHED}", False),
        (f"own.words[{ENDED}] = {VANISHED}", "pass", False),
        (f"own.words[{ENDED}] = {IN_ORDER}", "pass", False),
    ],
)
def test_who_leaves_others_behind_does_not_leave_with_0(
    child, board, before, meanwhile, left_behind, status, monkeypatch
):
    monkeypatch.setattr(departure, "_boards", [board])
    monkeypatch.setattr(departure, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(departure.time, "sleep", lambda _: child.do(meanwhile))
    child.do(before)
    try:
        assert departure._status_of_leaving(status) == (status or 1 if left_behind else status)
        assert Presence.own().words[ENDED] == VANISHED
    finally:
        Presence.own().words[ENDED] = 0


def test_a_closed_communicator_is_seen(child, board):
    child.do("board.close(followed=False)")
    assert board.lost() == {1: "closed the communicator after an error"}
    assert not board.has_followed(1)
    child.do("board.close(followed=True)")
    assert board.has_followed(1)


def looks(watch: Watch, number: int) -> None:
    for _ in range(number):
        time.sleep(LOOK_SECONDS)
        watch.look()


def test_a_loss_is_believed_at_the_second_look(child, board):
    watch = Watch(board, BARRIER, None)
    child.kill()
    looks(watch, 1)
    with pytest.raises(
        SyncLostRankError, match=r"rank 0 of 2 \(world\) waited in call 3, barrier, but rank 1 was killed"
    ):
        looks(watch, 1)
    watch.end()


def test_the_deadline_tells_who_is_absent_and_what_it_does(child, board):
    board.enter()
    board.enter()
    child.do(f"own.words[{WAIT}] = 1; own.text = 'rank 0 of 1 is elsewhere'")
    watch = Watch(board, BARRIER, 0.15)
    with pytest.raises(
        SyncTimeoutError, match=r"more than 0\.15 s.* rank 1 has not come \(.*rank 0 of 1 is elsewhere\)"
    ):
        looks(watch, 2)
    watch.end()


def test_waiting_for_each_other_is_believed_when_both_have_looked_again(child, board):
    """A process that does not run (stopped, or without a core) may be about to go on."""
    board.enter()
    board.enter()
    own = Presence.own()
    child.do(f"own.blocker = Presence.find(Address{tuple(own.address)})")
    child.do(f"own.words[{WAIT}] = 1; own.text = 'rank 1 waits for rank 0'")
    watch = Watch(board, BARRIER, None)
    looks(watch, 4)  # the other has not looked
    child.do(f"own.words[{WAIT}] = 2")
    looks(watch, 1)
    child.do(f"own.words[{LOOKS}] += 1")
    looks(watch, 2)
    child.do(f"own.words[{LOOKS}] += 1")
    with pytest.raises(
        SyncLostRankError, match=r"wait for each other .* call 3, barrier, and waits for rank 1; rank 1 w"
    ):
        looks(watch, 1)
    watch.end()
    assert own.words[WAIT] == 0
    assert own.blocker is None
