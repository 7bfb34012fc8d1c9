"""The communicator over torch.distributed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from syncbn.comm import SERIAL, Communicator
from syncbn.comm.arguments import is_timeout
from syncbn.comm.collective import collective
from syncbn.comm.errors import SyncLostRankError
from syncbn.comm.protocol import Protocol
from syncbn.comm.transport import Op, Test, Transport, Types
from syncbn.pitfalls import see

GRACE_SECONDS = 1.0
"""Time after an error of gloo in which the liveness checks can raise theirs, which says why a rank is lost."""

UNLIMITED = timedelta(days=1000)
"""Timeout of gloo's operations: the protocol has its own, which does not count the time in which a job is suspended."""

_GLOO_TYPES = Types("gloo", frozenset({np.float32, np.float64, np.int8, np.int32, np.int64, np.uint8}))


class TorchTransport(Transport):
    """Ranks of a process group of torch.distributed, which communicate through a gloo group of their own.

    So messages never match those of the caller, such as the gradients of DistributedDataParallel. Collective.

    Parameters
    ----------
    store : torch.distributed.Store
        Store in which the ranks find each other, with keys that no other group has.
    rank, size : int
        Rank of this process, and number of ranks.
    name : str
        Name of the group in messages.
    """

    def __init__(self, store: Any, rank: int, size: int, name: str) -> None:
        self.rank: int = rank
        self.size: int = size
        self.name: str = name
        self.types: Types = _GLOO_TYPES
        self._store = store
        self._splits = count()
        self._gloo = dist.ProcessGroupGloo(store, rank, size)
        self._gloo._set_default_timeout(UNLIMITED)
        self._ops = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}

    def allreduce(self, array: NDArray[Any], op: Op) -> Test:
        """Combine a contiguous array over ranks, in place."""
        return _test(self._gloo.allreduce([torch.from_numpy(array)], self._ops[op]))

    def broadcast(self, array: NDArray[Any], root: int) -> Test:
        """Copy a contiguous array of rank ``root`` to all ranks, in place."""
        return _test(self._gloo.broadcast(torch.from_numpy(array), root))

    def allgather(self, own: NDArray[np.uint8], gathered: NDArray[np.uint8], sizes: Sequence[int]) -> Test:
        """Write the bytes of all ranks to ``gathered``, in rank order; gloo takes equal sizes, so bytes are padded."""
        padded = torch.zeros((self.size, max(1, *sizes)), dtype=torch.uint8)
        padded[self.rank, : own.size] = torch.tensor(own)
        test = _test(self._gloo.allgather([list(padded)], [padded[self.rank].clone()]))

        def write() -> bool:
            if not test():
                return False
            gathered[...] = np.concatenate([row[:size] for row, size in zip(padded.numpy(), sizes, strict=True)])
            return True

        return write

    def split(self, color: int, name: str) -> TorchTransport:
        """Return the group of the ranks with the same ``color``."""
        colors = np.zeros(self.size, np.int64)
        colors[self.rank] = color
        self._gloo.allreduce(torch.from_numpy(colors)).wait()
        ranks = np.flatnonzero(colors == color).tolist()
        store = dist.PrefixStore(f"split {next(self._splits)} {color}", self._store)
        return TorchTransport(store, ranks.index(self.rank), len(ranks), name)

    def free(self) -> None:
        """Free the group."""
        self._gloo.shutdown()


def _test(work: Any) -> Test:
    """Return the test of an operation, which raises `SyncLostRankError` if gloo has lost a connection."""
    failures: list[tuple[float, RuntimeError]] = []

    def test() -> bool:
        if not failures and work.is_completed():
            try:
                work.wait()
                return True
            except RuntimeError as error:
                failures.append((time.monotonic(), error))
        for since, failure in failures:
            if time.monotonic() > since + GRACE_SECONDS:
                lost = f"a rank was lost, since gloo failed: {failure}{see('lost-ranks')}"
                raise SyncLostRankError(lost) from failure
        return False

    return test


def _of_itself(passed: Mapping[str, Any]) -> Communicator:
    """Return the communicator that is being made, in whose calls the other ranks hear of an error."""
    comm: Communicator = passed["self"]
    return comm if "_protocol" in vars(comm) else SERIAL


class TorchComm(Communicator):
    """The ranks of a process group of torch.distributed, which ``torchrun`` starts without MPI.

    Collective. The protocol is that of `MPIComm`, with the same guarantees, over gloo: bits, errors that all ranks
    raise, failure detection. Messages are sent on a gloo group of its own.

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup, optional
        Default: the default process group.
    timeout : float, optional
        Maximum time in seconds that a call waits for other ranks before it raises `SyncTimeoutError`. Default: no
        limit. While the communicator is made, gloo raises an error after 30 minutes.

    Raises
    ------
    RuntimeError
        torch.distributed is not available or not initialized.
    TypeError
        ``process_group`` is not a process group.
    ValueError
        This process does not belong to the group, or ``timeout`` is not a positive number.

    See Also
    --------
    syncbn.MPIComm : The ranks of MPI.

    Examples
    --------
    >>> import torch
    >>> import tempfile
    >>> from syncbn.torch import SyncBatchNorm, TorchComm
    >>> torch.distributed.init_process_group(  # torchrun needs no further arguments
    ...     "gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1
    ... )
    >>> comm = TorchComm()
    >>> layer = SyncBatchNorm(3, comm=comm)
    >>> comm.rank, comm.size
    (0, 1)
    >>> comm.free()
    >>> torch.distributed.destroy_process_group()
    """

    _protocol: Protocol

    @collective(_of_itself)
    def __init__(self, process_group: Any = None, *, timeout: float | None = None) -> None:
        _check_group(process_group)
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "torch.distributed has no process group: call torch.distributed.init_process_group('gloo') first"
                f"{see('processes-without-their-ranks')}"
            )
        group = dist.group.WORLD if process_group is None else process_group
        store = dist.PrefixStore(f"syncbn {next(_numbers[group])}", group.get_group_store())
        transport = TorchTransport(store, group.rank(), group.size(), f"process group of {group.size()} ranks")
        super().__init__(Protocol(transport, timeout=timeout if is_timeout(timeout) else None))
        self.timeout = timeout  # raises after the construction, for which the other ranks may wait

    @staticmethod
    def of(process_group: Any) -> TorchComm:
        """Return the communicator of a process group, which is made once. Collective at the first call."""
        _check_group(process_group)
        comm = _made.get(process_group)
        if comm is None or comm._protocol.freed:
            comm = _made[process_group] = TorchComm(process_group)
        return comm


def _check_group(process_group: Any) -> None:
    """Raise unless this is None or a process group to which this process belongs."""
    if process_group is None or not dist.is_available():
        return
    if process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            "this process does not belong to process_group: call only on the ranks of the group"
            f"{see('communicators-that-cannot-be-used')}"
        )
    if not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(
            "process_group must be a torch.distributed.ProcessGroup, as torch.distributed.new_group() returns, got "
            f"{type(process_group).__name__} {process_group!r}{see('communicators-that-cannot-be-used')}"
        )


_numbers: defaultdict[Any, Iterator[int]] = defaultdict(count)
"""Numbers of the communicators of each process group, whose ranks make them in the same order."""

_made: dict[Any, TorchComm] = {}
"""The communicators of process groups that were passed to layers."""
