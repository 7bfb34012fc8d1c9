"""One rank of a program in which something goes wrong: python scenario.py NAME DIRECTORY.

The last rank does what the scenario is named after, while the others are in a call or enter one.
Each rank writes into DIRECTORY/rank-R what it raised.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from syncbn import MPIComm, SyncBatchNorm, SyncError, SyncLostRankError
from syncbn.nn import SGD, Dense
from syncbn.train import Trainer

comm = MPIComm()
culprit = comm.rank == comm.size - 1
first, last = SyncBatchNorm(4, comm=comm), SyncBatchNorm(4, comm=comm)
x = np.random.default_rng(comm.rank).standard_normal((3, 4))


def leaves_before_the_last_layer() -> None:
    if not culprit:
        last(x)


def evaluates_in_training_mode() -> None:
    """The culprit alone computes outputs after the training, without having called eval()."""
    if culprit:
        last(x)


def saves() -> None:
    """The usual `if rank == 0: save` of other libraries."""
    layer = Dense(4, 2)
    trainer = Trainer(layer, SGD(layer.parameters(), 0.1), comm, batch_per_rank=2)
    if culprit:
        trainer.save(Path(sys.argv[2], "checkpoint.npz"))


def evaluates_while_others_train() -> None:
    if culprit:
        last.eval()
    last(x)


def calls_backward_twice_at_the_end() -> None:
    _, backward = last(x)
    backward(x)
    if not culprit:
        backward(x)


def is_killed() -> None:
    if culprit:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    last(x)


def calls_os_exit() -> None:
    if culprit:
        time.sleep(0.5)
        os._exit(0)
    last(x)


def raises() -> None:
    if culprit:
        raise KeyError("unrelated")
    last(x)


def closes_the_communicator() -> None:
    """By an exception that the culprit handles; then it stays alive and away."""
    if culprit:
        try:
            with comm:
                raise KeyError("handled")
        except KeyError:
            time.sleep(3)
    else:
        last(x)


def calls_on_a_group() -> None:
    """Rank 1 waits for rank 0 in their group, which waits with all others for rank 1."""
    group = comm.split(2)
    (SyncBatchNorm(4, comm=group) if comm.rank == 1 else last)(x)


def mismatch() -> None:
    (first if culprit else last)(x)


def finalizes_too_early() -> None:
    """All ranks finalize MPI, and make another call."""
    from mpi4py import MPI

    MPI.Finalize()
    last(x)


def finalizes_before_the_last_call() -> None:
    if culprit:
        from mpi4py import MPI

        MPI.Finalize()
    else:
        last(x)


def never_comes() -> None:
    comm.timeout = 0.5
    if culprit:
        time.sleep(10)
    else:
        last(x)


def leaves_and_others_catch() -> None:
    """An exception that is caught must not end in a hang in MPI_Finalize."""
    if not culprit:
        try:
            last(x)
        except SyncLostRankError as error:
            report(error)
            raise SystemExit(0) from None


def never_comes_and_others_catch() -> None:
    comm.timeout = 0.3
    if culprit:
        time.sleep(1)
        return
    try:
        last(x)
    except SyncError as error:
        report(error)
        raise SystemExit(0) from None


def makes_no_communicator() -> None:
    if not culprit:
        MPIComm()


def makes_a_communicator_alone() -> None:
    if culprit:
        MPIComm()
    last(x)


def another_rank_raises_elsewhere() -> None:
    """The culprit reports its error on one communicator, while the others wait for it on another."""
    other = MPIComm()
    if culprit:
        SyncBatchNorm(4, comm=other)(np.zeros((3, 5)))
    last(x)


def raises_with_a_thread() -> None:
    if culprit:
        threading.Thread(target=queue.Queue().get).start()
        raise KeyError("unrelated")
    last(x)


def raises_with_a_busy_executor() -> None:
    if culprit:
        ThreadPoolExecutor(1).submit(time.sleep, 60)
        raise KeyError("unrelated")
    last(x)


def raises_with_a_child_process() -> None:
    if culprit:
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
        raise KeyError("unrelated")
    last(x)


def raises_with_a_slow_exit_handler() -> None:
    if culprit:
        atexit.register(time.sleep, 60)
        raise KeyError("unrelated")
    last(x)


def has_bad_input() -> None:
    last(np.zeros((3, 5)) if culprit else x)


def has_too_few_values() -> None:
    last(x[: comm.rank == 0])


def all_raise() -> None:
    with np.errstate(all="raise"):
        Dense(5, 4)(np.zeros((3, 6 + comm.rank)))


def calls_after_free() -> None:
    comm.free()
    last(x)


def raises_in_the_standard_library() -> None:
    json.loads("{")


def ends_with_a_thread() -> None:
    if culprit:
        threading.Thread(target=queue.Queue().get).start()
    else:
        last(x)


def exits_with_a_thread() -> None:
    if culprit:
        threading.Thread(target=queue.Queue().get).start()
        raise SystemExit(3)
    last(x)


def raises_with_a_thread_that_nobody_waits_for() -> None:
    raises_with_a_thread() if culprit else None


def continues_in_a_thread() -> None:
    """The script ends before its thread, which makes the calls."""

    def train() -> None:
        time.sleep(1.5 if culprit else 0)
        last(x)
        report(RuntimeError("the call was made"))

    threading.Thread(target=lambda: (comm.barrier(), train())).start()
    time.sleep(0.5)  # until the thread uses the communicator


def is_interrupted() -> None:
    """As by Ctrl-C, on one rank that waits."""
    if comm.rank == 0:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
    if culprit:
        time.sleep(10)
    last(x)


def is_interrupted_between_messages() -> None:
    """As by Ctrl-C in a kernel, which the script catches; then it continues."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    if culprit:
        comm._protocol.sum = interrupt
        with suppress(KeyboardInterrupt):
            last(x)
        del comm._protocol.sum
    last(x)


def report(error: BaseException | None) -> None:
    raised = "nothing" if error is None else f"{type(error).__name__}: {error}"
    draft = Path(sys.argv[2], f"draft-{comm.rank}")
    draft.write_text(json.dumps({"pid": os.getpid(), "raised": raised}))
    draft.replace(Path(sys.argv[2], f"rank-{comm.rank}"))


def main(scenario: Callable[[], None]) -> None:
    first(x)
    report(None)
    try:
        scenario()
    except SystemExit:
        raise
    except BaseException as error:
        report(error)
        raise


if __name__ == "__main__":
    main(globals()[sys.argv[1]])
