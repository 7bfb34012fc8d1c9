"""Knowledge of a process about the other processes of its node, and the errors that ranks raise from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from syncbn import SyncLostRankError, SyncTimeoutError
from syncbn.comm.liveness import POLL_SECONDS, RankTable, Watch
from syncbn.comm.liveness.construction import GROUPS, Construction, group_key
from syncbn.comm.liveness.process_page import FINISHED, POLLS, RAISED, WAIT, PageAddress, ProcessPage
from syncbn.comm.signature import CONSTRUCTION, CollectiveSignature

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="pages are shared on Linux alone")

CHILD = """
import sys
from syncbn.comm.liveness import RankTable
from syncbn.comm.liveness.process_page import PageAddress, ProcessPage
table = RankTable(1, 2, "world")
table.calls += 1
table.own.page.text = "working"
print(*table.address, flush=True)
for command in sys.stdin:
    exec(command)
    print("done", flush=True)
"""

BARRIER = CollectiveSignature("barrier"), 3


class Child:
    """Another process, as rank 1 of 2."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1, text=True)
        self.address = tuple(map(int, self.process.stdout.readline().split()))

    def do(self, command: str) -> None:
        self.process.stdin.write(f"own = table.own.page; {command}\n")
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
def table(child: Child) -> Iterator[RankTable]:
    table = RankTable(0, 2, "world")
    table.connect([table.address, child.address])
    yield table
    table.free()


def test_another_process_is_read(child, table):
    slot = table.others[1]
    assert (slot.calls, slot.page.text, slot.page.exit_reason, table.unknown) == (1, "working", "", [])
    table.calls += 1
    assert table.absent() == []
    table.calls += 1
    assert table.absent() == [1]
    child.do("table.calls += 1")
    assert table.absent() == []
    child.do("own.text = 'ä' * 10_000")
    assert set(slot.page.text) <= {"ä", "\N{REPLACEMENT CHARACTER}"}
    assert len(slot.page.text) > 100


@pytest.mark.parametrize("change", [{"nonce": 1}, {"descriptor": 0}, {"descriptor": 999}, {"pid": 2**22 + 1}])
def test_other_memory_than_a_page_is_not_read(child, change):
    *address, word = child.address
    table = RankTable(0, 2, "")
    table.connect([table.address, (*PageAddress(*address)._replace(**change), word)])
    assert table.others == {}
    assert table.unknown == [1]
    table.free()


def test_a_killed_process_is_detected_before_and_after_its_parent_has_noticed(child, table):
    assert table.lost() == {}
    child.kill()
    assert "crashed" in table.lost()[1]
    child.process.wait()
    assert "crashed" in table.lost()[1]


def test_a_process_whose_script_finished_has_not_crashed(child, table):
    child.do(f"own.words[{FINISHED}] = 1; own.text = 'ended with KeyError: 3'")
    assert table.lost() == {1: "ended with KeyError: 3"}
    child.kill()
    assert not table.others[1].page.crashed
    assert table.lost() == {1: "ended with KeyError: 3"}


def test_a_closed_communicator_is_seen(child, table):
    child.do("table.close(cascading=False)")
    assert table.lost() == {1: "closed the communicator after an error"}
    assert not table.is_cascading(1)
    child.do("table.close(cascading=True)")
    assert table.is_cascading(1)


class Polls:
    """Polls at the times of a clock that does not depend on the load of the machine."""

    def __init__(self) -> None:
        self.start = self.now = time.monotonic()

    def __call__(self, watch: Watch, number: int) -> None:
        for _ in range(number):
            self.now += POLL_SECONDS
            watch.poll(self.now)


@pytest.fixture
def polls() -> Polls:
    return Polls()


def test_a_loss_is_raised_at_the_second_poll(child, table, polls):
    watch = Watch(table, *BARRIER, None, polls.start)
    child.kill()
    polls(watch, 1)
    with pytest.raises(SyncLostRankError, match=r"rank 0 of 2 \(world\) waited in call 3, barrier, but rank 1 crashed"):
        polls(watch, 1)
    watch.end()


def test_a_timeout_names_the_absent_rank_and_its_own_call(child, table, polls):
    table.calls += 1
    table.calls += 1
    child.do(f"own.words[{WAIT}] = 1; own.text = 'rank 0 of 1 is elsewhere'")
    watch = Watch(table, *BARRIER, 0.15, polls.start)
    with pytest.raises(
        SyncTimeoutError, match=r"more than 0\.15 s.* rank 1 has not entered it \(.*rank 0 of 1 is elsewhere\)"
    ):
        polls(watch, 2)
    watch.end()


def test_a_cycle_is_raised_when_both_have_polled_again(child, table, polls):
    """A process that does not run (stopped, or without a core) may be about to continue."""
    table.calls += 1
    table.calls += 1
    own = ProcessPage.own()
    child.do(f"own.blocker = ProcessPage.find(PageAddress{tuple(own.address)})")
    child.do(f"own.words[{WAIT}] = 1; own.text = 'rank 1 waits for rank 0'")
    watch = Watch(table, *BARRIER, None, polls.start)
    polls(watch, 4)  # the other has not polled
    child.do(f"own.words[{WAIT}] = 2")
    polls(watch, 1)
    child.do(f"own.words[{POLLS}] += 1")
    polls(watch, 2)
    child.do(f"own.words[{POLLS}] += 1")
    with pytest.raises(
        SyncLostRankError, match=r"wait for each other .* call 3, barrier, and waits for rank 1; rank 1 w"
    ):
        polls(watch, 1)
    watch.end()
    assert own.words[WAIT] == 0
    assert own.blocker is None


def test_time_in_which_a_job_was_suspended_is_not_waited(table):
    start = time.monotonic()
    watch = Watch(table, *BARRIER, 1.5, start)
    for seconds in (60, 60.7, 160, 160.7):
        watch.poll(start + seconds)
    with pytest.raises(SyncTimeoutError):
        watch.poll(start + 161)
    watch.end()


def test_a_timeout_names_a_suspended_rank(child, table, polls):
    """It has entered the call, so the others would have to conclude that MPI is slow."""
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
    watch = Watch(table, *BARRIER, 0.1, polls.start)
    with pytest.raises(SyncTimeoutError, match=r": rank 1 is suspended \("):
        polls(watch, 2)
    watch.end()


def test_a_cycle_with_a_rank_that_reports_an_error_repeats_the_error(child, table, polls):
    table.calls += 1
    table.calls += 1
    own = ProcessPage.own()
    child.do(f"own.blocker = ProcessPage.find(PageAddress{tuple(own.address)}); own.text = 'rank 1 raised KeyError: 3'")
    child.do(f"own.words[{WAIT}] = own.words[{RAISED}] = 1")
    watch = Watch(table, *BARRIER, None, polls.start)
    polls(watch, 1)
    child.do(f"own.words[{POLLS}] += 2")
    with pytest.raises(SyncLostRankError, match=r"waited in call 3, barrier, but rank 1 raised KeyError: 3 \("):
        polls(watch, 2)
    watch.end()


def test_a_rank_that_reports_an_error_waits_for_those_that_can_raise(child, table, polls):
    table.calls += 1
    table.calls += 1
    own = ProcessPage.own()
    child.do(f"own.blocker = ProcessPage.find(PageAddress{tuple(own.address)}); own.words[{WAIT}] = 1")
    watch = Watch(table, *BARRIER, None, polls.start, "KeyError: 3")
    for _ in range(4):
        polls(watch, 1)
        child.do(f"own.words[{POLLS}] += 2")
    assert own.words[RAISED]
    assert "raised KeyError: 3" in own.text
    child.do(
        f"own.words[{RAISED}], own.words[{WAIT}] = 1, 2"
    )  # nobody in the cycle can raise now but those that report errors
    watch.poll(polls.now)
    child.do(f"own.words[{POLLS}] += 2")
    with pytest.raises(SyncLostRankError):
        polls(watch, 3)
    watch.end()
    assert not own.words[RAISED]


def test_constructions_are_counted_by_group(child):
    child.do("from syncbn.comm.liveness.construction import Construction, group_key")
    page = ProcessPage.find(PageAddress(*child.address[:3]))
    counts = [Construction(page, group_key(members)) for members in ([0, 1], [0, 1, 2])]
    assert [count.calls for count in counts] == [0, 0]
    child.do("Construction(own, group_key([0, 1])).calls = 2")
    assert [count.calls for count in counts] == [2, 0]
    child.do(f"Construction(own, {counts[0]._key} + {GROUPS}).calls = 5")  # the next word of the table
    assert [count.calls for count in counts] == [2, 0]
    assert Construction(page, counts[0]._key + GROUPS).calls == 5


def test_a_long_wait_is_printed_once(table, capsys):
    """The other rank may wait for this one outside of syncbn, of which nothing is known."""
    table.calls += 1
    table.calls += 1
    start = time.monotonic()
    watch = Watch(table, *BARRIER, None, start)
    for i in range(1, 250):
        watch.poll(start + 0.5 * i)
        text = "[rank 0] has waited 60 s in call 3, barrier: rank 1 has not entered it"
        assert capsys.readouterr().err.startswith(text) == (i == 121)
    watch.end()


def test_a_rank_that_waits_in_a_construction_prints_it_once(table, capsys):
    """The other ranks of a first communicator are unknown, so that no error is raised if they never construct it."""
    table.calls += 1
    start = time.monotonic()
    watch = Watch(table, CONSTRUCTION, 0, None, start)
    for i in range(1, 50):
        watch.poll(start + 0.5 * i)
        assert ("All ranks must construct a communicator together" in capsys.readouterr().err) == (i == 21)
    watch.end()
