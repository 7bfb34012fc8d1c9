"""Ranks in different calls: all of them raise an error with the difference, and the communicator remains usable."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import MPIComm, SyncBatchNorm, SyncMismatchError
from syncbn import functional as F
from syncbn.train import FlatGradients, evaluate

pytestmark = pytest.mark.ranks

X = np.arange(12.0).reshape(4, 3)


class Calls:
    """Calls that a rank may make on a communicator, after the same forward on all ranks."""

    def __init__(self, comm):
        self.comm = comm
        self.layer, self.other = SyncBatchNorm(3, comm=comm), SyncBatchNorm(3, comm=comm)
        self._backward = self.layer(X)[1]

    def forward(self):
        self.layer(X)

    def next_forward(self):
        self.other(X)

    def backward(self):
        self._backward(X)

    def function(self):
        F.batch_norm(X, comm=self.comm)

    def gradients(self):
        self.comm.allreduce(np.zeros(20, np.float32))

    def sum_of_gradients(self):
        flat = FlatGradients(list(self.layer.parameters()))
        flat.take(0.0)
        flat.add_over_ranks(self.comm)

    def sum_of_5(self):
        self.comm.allreduce(np.zeros(5))

    def sum_of_6(self):
        self.comm.allreduce(np.zeros(6))

    def sum_of_integers(self):
        self.comm.allreduce(np.zeros(5, np.int64))

    def largest_of_5(self):
        self.comm.allreduce(np.zeros(5), "max")

    def from_rank_0(self):
        self.comm.broadcast(np.zeros(5))

    def from_rank_1(self):
        self.comm.broadcast(np.zeros(5), 1)

    def barrier(self):
        self.comm.barrier()

    def allgather(self):
        self.comm.allgather("x")

    def split(self):
        self.comm.split(1)

    def split_in_pairs(self):
        self.comm.split(2)

    def free(self):
        self.comm.free()

    def evaluation(self):
        evaluate(self.layer, X, np.zeros(4, int), self.comm)

    def evaluation_then_gradients(self):
        self.layer.eval()
        self.layer(X)
        self.layer.train()
        self.gradients()


PAIRS = [  # what the last rank calls, what the others call, and what their error has of it
    ("next_forward", "forward", "layer 'SyncBatchNorm #2' against 'SyncBatchNorm #1'"),
    ("gradients", "forward", r"allreduce \(elements=20, dtype='float32', op='sum'\)"),
    ("gradients", "backward", r"allreduce \(elements=20, dtype='float32', op='sum'\)"),
    ("evaluation_then_gradients", "forward", r"allreduce \(elements=20, dtype='float32', op='sum'\)"),
    ("forward", "gradients", "forward of SyncBatchNorm #1 "),
    ("backward", "forward", "operation 'backward' against 'forward'"),
    ("function", "forward", "layer '' against 'SyncBatchNorm #1'"),
    ("sum_of_6", "sum_of_5", "elements 6 against 5"),
    ("sum_of_integers", "sum_of_5", "dtype 'int64' against 'float64'"),
    ("largest_of_5", "sum_of_5", "op 'max' against 'sum'"),
    ("from_rank_0", "sum_of_5", "broadcast "),
    ("from_rank_1", "from_rank_0", "root 1 against 0"),
    ("barrier", "allgather", "operation 'barrier' against 'allgather'"),
    ("barrier", "forward", "barrier"),
    ("split", "split_in_pairs", "group_size 1 against 2"),
    ("free", "forward", "free"),
    ("forward", "free", "forward of SyncBatchNorm #1 "),
]


@pytest.mark.parametrize(("last", "others", "text"), PAIRS)
def test_different_calls(comm, last, others, text):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    with MPIComm() as own:
        calls = Calls(own)
        mine = comm.rank == comm.size - 1
        expected = r"rank 0 called " if mine else rf"but rank {comm.size - 1} called {text}"
        with pytest.raises(SyncMismatchError, match=expected):
            getattr(calls, last if mine else others)()
        ours = getattr(calls, others)
        ours()  # the same on all ranks, and on the communicator that a `free` of one rank has not freed
        if others != "free":
            total = np.full(2, own.rank)
            own.allreduce(total)
            np.testing.assert_array_equal(total, own.size * (own.size - 1) // 2)


@pytest.mark.parametrize(
    ("last", "others", "advice"),
    [
        ("next_forward", "forward", r"use BatchNorm or comm=SerialComm\(\).*#layers-on-one-rank"),
        ("forward", "backward", r"Is a rank evaluating\? Call model\.eval\(\) first.*#evaluation-on-one-rank"),
        ("forward", "gradients", r"Is a rank evaluating\? Call model\.eval\(\) first.*#evaluation-on-one-rank"),
        (
            "evaluation",
            "forward",
            r"\. train\.evaluate is a call of all ranks; on .*pass comm=SerialComm\(\) \(docs.*-on-one",
        ),
        (
            "sum_of_gradients",
            "forward",
            r"sum_gradients is a call of all ranks, after equally many forwards and backwards .*#different-calls",
        ),
        ("free", "forward", r"free is a call of all ranks, not of one alone \(docs/sharp-bits\.md#collective-calls\)"),
        ("barrier", "forward", r"barrier is a call of all ranks, not of one alone"),
        ("evaluation", "barrier", r"train\.evaluate is a call of all ranks; on one rank alone"),
        ("sum_of_gradients", "barrier", r"sum_gradients is a call of all ranks, after equally many"),
        ("allgather", "forward", r"allgather is a call of all ranks, not of one alone"),
        ("sum_of_6", "sum_of_5", r"the same calls in the same order \(docs/sharp-bits\.md#different-calls\)$"),
    ],
)
def test_different_calls_say_what_the_mistake_may_be(comm, last, others, advice):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    with MPIComm() as own:
        with pytest.raises(SyncMismatchError, match=advice):
            getattr(Calls(own), last if comm.rank == comm.size - 1 else others)()
        own.barrier()


def test_a_forward_and_a_barrier_of_as_many_ranks_could_each_be_the_odd_one(comm):
    if comm.size != 2:
        pytest.skip("two ranks in two calls")
    with MPIComm() as own:
        with pytest.raises(SyncMismatchError, match=r"barrier is a call .*\. Is a rank evaluating\?"):
            getattr(Calls(own), "forward" if comm.rank == 0 else "barrier")()
        own.barrier()


def test_a_mask_on_one_rank_alone_is_no_difference(comm):
    mask = np.arange(len(X)) < 2 if comm.rank == comm.size - 1 else None
    assert F.batch_norm(X, mask=mask, comm=comm)[1].count == 4 * (comm.size - 1) + 2


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        ([1.0, 2.0], TypeError, "expected an array, got list: convert it"),
        (2.5, TypeError, r"expected an array, got 2\.5: pass an array .* numpy\.array\(\[x\]\) for a number"),
        (None, TypeError, "expected an array, got None: pass an array of one shape and dtype on all ranks"),
        (np.zeros(3, np.float16), TypeError, "MPI has no type for float16"),
        (np.zeros(3, ">f8"), TypeError, "MPI has no type for >f8"),
        (np.zeros(3, object), TypeError, "MPI has no type for object"),
        (np.zeros((3, 4))[:, :2], ValueError, r"contiguous writable array, got one of shape \(3, 2\)"),
    ],
)
def test_an_array_that_can_not_be_sent(comm, array, error, text):
    culprit = comm.size - 1
    for call in (comm.allreduce, comm.broadcast):
        if comm.rank == culprit:
            with pytest.raises(error, match=text):
                call(array)
        else:
            with pytest.raises(SyncMismatchError, match=f"rank {culprit} had bad input: .*{text}"):
                call(np.zeros(3))
    comm.barrier()


@pytest.mark.parametrize(("dtype", "op"), [(bool, "sum"), (bool, "max"), (complex, "max"), (complex, "min")])
def test_an_operation_that_mpi_lacks_leaves_the_communicator_usable(comm, dtype, op):
    with pytest.raises(TypeError, match=f"MPI has no {op} of {np.dtype(dtype)}"):
        comm.allreduce(np.ones(3, dtype), op)
    comm.barrier()


def test_numpys_numbers_are_numbers(comm):
    array = np.full(3, comm.rank, np.float32)
    comm.broadcast(array, np.int64(comm.size - 1) if comm.rank else comm.size - 1)
    np.testing.assert_array_equal(array, comm.size - 1)
    comm.split(np.int32(2)).free()
    before = comm.timeout
    comm.timeout = np.float32(600)
    comm.barrier()
    comm.timeout = before


def test_bad_choices_reach_all_ranks(comm):
    culprit = comm.size - 1
    mine = comm.rank == culprit
    for call, bad, good, text in (
        (
            lambda op: comm.allreduce(np.zeros(3), op),
            "mean",
            "sum",
            "op must be one of 'sum', 'min', 'max', got 'mean'",
        ),
        (lambda root: comm.broadcast(np.zeros(3), root), comm.size, 0, f"root must be one of .*, got {comm.size}"),
        (lambda op: comm.allreduce(np.zeros(3), op), [], "sum", r"op must be one of .*, got \[\]"),
        (comm.split, 0, 1, "group_size must be at least 1, got 0"),
        (comm.split, "2", 1, "group_size must be an integer, got '2'"),
        (comm.split, 1.5, 1, "group_size must be an integer, got 1.5"),
        (comm.split, True, 1, "group_size must be an integer, got True"),
        (comm.allgather, lambda: None, 1, "pickle|local object"),  # before and from Python 3.13
    ):
        with pytest.raises(Exception if mine else SyncMismatchError, match=text):
            call(bad if mine else good)
    comm.barrier()
