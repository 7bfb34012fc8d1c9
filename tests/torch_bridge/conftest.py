"""Communicators over MPI and over torch.distributed for the tests on ranks."""

from __future__ import annotations

import datetime
import os

import pytest

from syncbn.comm import SerialComm


@pytest.fixture(scope="session")
def process_group(comm, tmp_path_factory):
    """Default process group of torch.distributed (gloo), with the ranks of MPI."""
    torch = pytest.importorskip("torch")
    (path, *_) = comm.allgather(str(tmp_path_factory.mktemp("gloo") / "store"))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = torch.distributed.FileStore(path, comm.size)
    timeout = datetime.timedelta(seconds=40)
    torch.distributed.init_process_group("gloo", store=store, rank=comm.rank, world_size=comm.size, timeout=timeout)
    yield torch.distributed.group.WORLD
    comm.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(params=["mpi", "gloo"])
def any_comm(request, comm):
    """Communicator of all ranks: over MPI, and over torch.distributed."""
    if isinstance(comm, SerialComm) or request.param == "mpi":
        return comm
    from syncbn.torch import TorchComm

    return TorchComm.of(request.getfixturevalue("process_group"))
