"""The communicator of MPI ranks."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from syncbn.comm.arguments import is_timeout
from syncbn.comm.collective import collective
from syncbn.comm.communicator import Communicator
from syncbn.comm.launcher import single_process_problem, torchrun_problem
from syncbn.comm.mpi_import import check_intracommunicator, import_mpi
from syncbn.comm.mpi_transport import MPITransport
from syncbn.comm.protocol import Protocol

if TYPE_CHECKING:
    from mpi4py import MPI


made: WeakValueDictionary[int, MPIComm] = WeakValueDictionary()
"""The communicators of this process, in the order in which they were made."""

_numbers = count()


def _latest(_: object) -> Communicator:
    from syncbn.comm.cache import latest

    return latest()


class MPIComm(Communicator):
    """The ranks of an MPI communicator.

    Collective. A process must make only one collective call at a time. Messages are sent on a duplicate of the MPI
    communicator, so they never match messages of the caller.

    Every collective call begins with a handshake, in which ranks detect that they have made different calls. A rank of
    the same node that cannot enter a call (it has exited, crashed, closed the communicator, or is blocked in another
    communicator) is detected within a second. For ranks of other nodes, set ``timeout``.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        MPI communicator. Default: ``MPI.COMM_WORLD``.
    timeout : float, optional
        Maximum time in seconds that a call waits for other ranks before it raises `SyncTimeoutError`. Default:
        without limit.

    Raises
    ------
    ImportError
        mpi4py or the MPI library is missing.
    TypeError
        ``comm`` is not an mpi4py intracommunicator.
    ValueError
        ``timeout`` is not a positive number, ``comm`` is ``MPI.COMM_NULL``, or too many communicators are open.
    RuntimeError
        MPI is not initialized or is finalized; or a launcher started several processes, but each has an MPI
        world of size 1.

    See Also
    --------
    syncbn.SerialComm : One process, without MPI.
    syncbn.comm.world : The communicator of all ranks.
    syncbn.torch.TorchComm : The ranks of torch.distributed.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import MPIComm
    >>> with MPIComm(timeout=600) as comm:  # all ranks of MPI.COMM_WORLD
    ...     total = np.ones(2)
    ...     comm.allreduce(total)
    >>> bool((total == comm.size).all())
    True
    """

    _protocol: Protocol

    @collective(_latest)
    def __init__(self, comm: MPI.Intracomm | None = None, *, timeout: float | None = None) -> None:
        mpi: Any = import_mpi()
        if mpi.Comm.Get_parent() == mpi.COMM_NULL:  # the launcher did not start processes that MPI spawned
            ranks = mpi.COMM_WORLD.Get_size()
            problem = single_process_problem(ranks)
            if comm is None or comm == mpi.COMM_WORLD:
                problem = problem or torchrun_problem(ranks)
            if problem:
                raise RuntimeError(problem)
        base = mpi.COMM_WORLD if comm is None else comm
        check_intracommunicator(base, "an mpi4py intracommunicator")
        transport = MPITransport(base, base.Get_name(), duplicate=True)
        super().__init__(Protocol(transport, timeout=timeout if is_timeout(timeout) else None))
        made[next(_numbers)] = self
        self.timeout = timeout  # raises after the construction, for which the other ranks may wait
