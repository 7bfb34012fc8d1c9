"""The protocol of collective calls, over a transport whose ranks are threads."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from comm.thread_transport import on_threads
from syncbn import SyncBatchNorm, SyncError, SyncMismatchError, SyncTimeoutError
from syncbn import functional as F
from syncbn.comm import CollectiveSignature
from syncbn.comm.protocol import CAPACITY, HANDSHAKE_BYTES
from syncbn.comm.signature import layer_signature

SIZE = 3
FORWARD = layer_signature("SyncBatchNorm #1", 64, "float32", "exact", 1e-5, "weight+bias")
MEET = CollectiveSignature("meet")


@pytest.fixture(autouse=True)
def _short_turns():
    """Let threads take turns often: each waits for all others in every call."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


def protocols(function, **options):
    """Run ``function(protocol, rank)`` on all ranks."""
    return on_threads(SIZE, lambda comm: function(comm._protocol, comm.rank), **options)


@pytest.mark.parametrize("own_memory", [True, False])
@pytest.mark.parametrize("size", [0, 1, CAPACITY, CAPACITY + 1, 5000, 40_000])
def test_maxima_and_sums_of_any_size(size, own_memory):
    """40,000 sums are more than memory is kept for; some ranks use memory of the protocol and some their own."""

    def call(protocol, rank):
        results = []
        for step in range(3):
            kept = own_memory == (rank % 2 == 0)
            values = protocol.max_buffer(size) if kept else np.empty(size)
            values[:] = np.arange(size) * (rank - 1) + step
            number = protocol.handshake(FORWARD, values)
            results.append((number, values.copy()))
            for dtype in (np.dtype(np.int64), np.dtype(np.float64)):
                sums = protocol.sum_buffer(size, dtype) if kept else np.empty(size, dtype)
                assert (sums.shape, sums.dtype) == ((size,), dtype)
                sums[:] = np.arange(size) + rank
                protocol.sum(sums)
                results.append((number, sums.copy()))
        return results

    for results in protocols(call):
        for step in range(3):
            (number, maxima), *sums = results[3 * step : 3 * step + 3]
            assert number == step + 1
            np.testing.assert_array_equal(maxima, np.arange(size) * (SIZE - 2) + step)
            for _, found in sums:
                np.testing.assert_array_equal(found, SIZE * np.arange(size) + sum(range(SIZE)))


def test_a_handshake_carries_all_that_fits_and_counts_its_bytes():
    def call(protocol, _):
        before = protocol.bytes_sent
        protocol.handshake(MEET, np.ones(CAPACITY))
        fits = protocol.bytes_sent - before
        protocol.handshake(MEET, np.ones(CAPACITY + 1))
        return fits, protocol.bytes_sent - before - fits

    assert set(protocols(call)) == {(HANDSHAKE_BYTES, HANDSHAKE_BYTES + 8 * (CAPACITY + 1))}


@pytest.mark.parametrize("array", [np.zeros(4, np.float32), np.zeros(8)[::2], np.zeros(3, ">f8")])
def test_a_max_buffer_must_be_contiguous_float64(array):
    def call(protocol, _):
        with pytest.raises((TypeError, ValueError), match=r"float64|contiguous"):
            protocol.handshake(MEET, array)

    assert protocols(call) == [None] * SIZE


@pytest.mark.parametrize("odd", range(SIZE))
@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"layer": "SyncBatchNorm #2"}, "SyncBatchNorm #2"),
        ({"channels": 65}, "channels 65 against 64"),
        ({"dtype_name": "float64"}, "float64"),
        ({"reduction": "float64"}, "reduction"),
        ({"eps": np.nextafter(1e-5, 1)}, "eps"),
        ({"affine": "weight"}, "affine"),
    ],
)
def test_every_field_of_a_signature_is_compared(change, fact, odd):
    fields = {
        "layer": "SyncBatchNorm #1",
        "channels": 64,
        "dtype_name": "float32",
        "reduction": "exact",
        "eps": 1e-5,
        "affine": "weight+bias",
    }

    def call(protocol, rank):
        signature = protocol.layer_signature(**{**fields, **(change if rank == odd else {})})
        with pytest.raises(SyncMismatchError) as caught:
            protocol.handshake(signature)
        return str(caught.value), protocol.handshake(FORWARD)

    for rank, (text, number) in enumerate(protocols(call)):
        assert number == 1, "ranks begin to count again after a mismatch"
        assert f"rank {rank} at call 1" in text
        if rank != odd:
            assert f"rank {odd} called" in text
            assert fact in text


def test_all_ranks_detect_a_mismatch_whichever_digest_is_the_larger():
    def call(protocol, rank):
        for layer in range(20):
            signature = CollectiveSignature("forward", layer=f"layer {layer}" if rank == 1 else "another")
            with pytest.raises(SyncMismatchError):
                protocol.handshake(signature)

    assert protocols(call, timeout=2) == [None] * SIZE


def test_a_backward_must_be_that_of_the_same_forward():
    def call(protocol, rank):
        for _ in range(2):
            protocol.handshake(FORWARD)
            protocol.sum(np.zeros(1))
        protocol.handshake(FORWARD.backward, forward=1)
        protocol.sum(np.zeros(1))
        with pytest.raises(SyncMismatchError, match=r"call 4.*backward of call (1 against|2 against)"):
            protocol.handshake(FORWARD.backward, forward=1 + (rank == 0))

    assert protocols(call) == [None] * SIZE


def test_a_skipped_call_is_detected():
    def call(protocol, rank):
        protocol.handshake(MEET)
        if rank == 1:
            protocol.sequence_number += 1
        with pytest.raises(SyncMismatchError, match="was at call 3" if rank != 1 else "was at call 2"):
            protocol.handshake(MEET)

    assert protocols(call) == [None] * SIZE


@pytest.mark.parametrize("culprits", [{1}, {0, 2}, {0, 1, 2}])
def test_an_error_of_one_rank_is_an_error_of_all(culprits):
    def call(protocol, rank):
        try:
            with protocol.collective_errors(FORWARD):
                if rank in culprits:
                    raise KeyError(f"bad on {rank}")
            protocol.handshake(MEET)
        except (KeyError, SyncMismatchError) as error:
            protocol.handshake(MEET)  # the communicator remains usable
            return error

    for rank, error in enumerate(protocols(call)):
        if rank in culprits:
            assert type(error) is KeyError
            assert error.args == (f"bad on {rank}",)
        else:
            assert isinstance(error, SyncMismatchError)
            assert dict(error.errors) == {culprit: repr(f"bad on {culprit}") for culprit in culprits}
            assert all(f"rank {culprit} " in str(error) for culprit in culprits)


def meet(protocol, error=None, *inner):
    """End a block with a handshake or, on this rank, with an error; the block contains those of ``inner``."""
    with protocol.collective_errors(MEET, handshake=True):
        if inner:
            meet(*inner)
        if error is not None:
            raise error


def test_a_block_that_ends_with_a_handshake():
    def call(protocol, rank):
        meet(protocol)
        assert protocol.sequence_number == 1
        with pytest.raises(OSError if rank == 0 else SyncMismatchError, match="disk"):
            meet(protocol, OSError("disk") if rank == 0 else None)

    assert protocols(call) == [None] * SIZE


def test_an_error_that_all_ranks_have_is_not_shared_again():
    """The others, which are in no block, raise it once."""

    def call(protocol, rank):
        with pytest.raises(KeyError if rank == 0 else SyncMismatchError):
            meet(protocol, None, protocol, KeyError("once")) if rank == 0 else protocol.handshake(MEET)
        protocol.handshake(MEET)

    assert protocols(call, timeout=2) == [None] * SIZE


def test_an_exception_that_is_raised_again_is_shared_again():
    again = KeyError("again and again")

    def call(protocol, rank):
        for _ in range(2):
            with pytest.raises(KeyError if rank == 0 else SyncMismatchError):
                meet(protocol, None, protocol, again if rank == 0 else None)
            assert protocol.handshake(MEET) == 1

    assert protocols(call) == [None] * SIZE


def test_errors_of_a_group_reach_all_ranks():
    def call(comm):
        group = comm.split(2)
        with pytest.raises(KeyError if comm.rank == 1 else SyncMismatchError, match="in the group") as caught:
            meet(comm._protocol, None, group._protocol, KeyError("in the group") if comm.rank == 1 else None)
        comm.barrier()
        return type(caught.value)

    assert on_threads(SIZE, call) == [SyncMismatchError, KeyError, SyncMismatchError]


def test_other_exceptions_than_errors_are_not_shared():
    def call(protocol, rank):
        with pytest.raises(SystemExit if rank == 0 else SyncTimeoutError):
            meet(protocol, SystemExit() if rank == 0 else None)

    assert protocols(call, timeout=0.3) == [None] * SIZE


def test_an_error_between_messages_closes_the_communicator():
    def call(protocol, _):
        protocol.handshake(FORWARD)
        with pytest.raises(KeyError, match="first"):
            meet(protocol, KeyError("first"))
        with pytest.raises(ValueError, match="interrupted call 1, forward of SyncBatchNorm #1"):
            protocol.handshake(MEET)
        with pytest.raises(KeyError, match="second"):
            meet(protocol, KeyError("second"))

    assert protocols(call) == [None] * SIZE


def test_an_error_in_a_message_closes_the_communicator():
    def call(protocol, _):
        make = protocol.transport.persistent_allreduce

        def fail(buffer, op):
            if buffer.size == 300:
                raise MemoryError
            return make(buffer, op)

        protocol.transport.persistent_allreduce = fail
        with pytest.raises(MemoryError):
            protocol.handshake(FORWARD, np.zeros(300))
        with pytest.raises(KeyError, match="own"):
            meet(protocol, KeyError("own"))
        with pytest.raises(ValueError, match="closed by MemoryError in call 1, forward of SyncBatchNorm #1"):
            protocol.handshake(MEET)

    assert protocols(call) == [None] * SIZE


def test_a_timeout():
    def call(protocol, rank):
        if rank == 2:
            return None
        with pytest.raises(SyncTimeoutError, match=rf"rank {rank} of 3.*0\.2 s in call 1, meet"):
            protocol.handshake(MEET)
        return protocol.closed

    *closed, _ = protocols(call, timeout=0.2)
    assert all("SyncTimeoutError in call 1, meet" in text for text in closed)


def test_public_operations():
    def call(comm):
        results = []
        for op in ("sum", "min", "max"):
            array = np.full(2, comm.rank, np.int64)
            comm.allreduce(array, op)
            results.append(array[0])
        array = np.full(3, comm.rank)
        comm.broadcast(array, 1)
        comm.barrier()
        results.append(array[0])
        gathered = comm.allgather("x" * comm.rank)
        group = comm.split(2)
        sizes = (group.rank, group.size)
        group.free()
        comm.free()
        with pytest.raises(ValueError, match="freed"):
            comm.barrier()
        return (*map(int, results), gathered, sizes)

    expected = (3, 0, 2, 1, ["", "x", "xx"])
    assert on_threads(SIZE, call) == [(*expected, (0, 2)), (*expected, (1, 2)), (*expected, (0, 1))]


@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_a_layer_gives_the_bits_of_one_process(rng, reduction):
    x = rng.standard_normal((7, 5, 4)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    shares = [slice(0, 1), slice(1, 1), slice(1, 7)]

    def call(comm):
        own = shares[comm.rank]
        layer = SyncBatchNorm(5, comm=comm, reduction=reduction)
        y, backward = layer(x[own])
        return y, backward(dy[own]), layer.running_var

    results = on_threads(SIZE, call)
    assert not any(isinstance(result, SyncError) for result in results), results
    y, moments, backward = F.batch_norm(x)
    same = np.testing.assert_array_equal if reduction == "exact" else np.testing.assert_allclose
    options = {} if reduction == "exact" else {"rtol": 1e-4, "atol": 1e-6}
    same(np.concatenate([result[0] for result in results]), y, **options)
    same(np.concatenate([result[1] for result in results]), backward(dy)[0], **options)
    assert len({result[2].tobytes() for result in results}) == 1
    local = F.batch_norm(x[shares[2]])[0]
    assert not np.array_equal(local, y[shares[2]]), "statistics of one rank give other values"
    assert moments.count == 28
