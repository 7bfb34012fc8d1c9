"""Communicators over MPI and over torch.distributed for the tests on ranks."""

from __future__ import annotations

import datetime
import os

import pytest

from syncbn.comm import SerialComm


@pytest.fixture(scope="session")
def process_group(comm, tmp_path_factory):
    """Default process group of torch.distributed (gloo), with the ranks of this run."""
    torch = pytest.importorskip("torch")
    if torch.distributed.is_initialized():  # by torchrun
        yield torch.distributed.group.WORLD
        return
    (path, *_) = comm.allgather(str(tmp_path_factory.mktemp("gloo") / "store"))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = torch.distributed.FileStore(path, comm.size)
    timeout = datetime.timedelta(seconds=40)
    torch.distributed.init_process_group("gloo", store=store, rank=comm.rank, world_size=comm.size, timeout=timeout)
    yield torch.distributed.group.WORLD
    comm.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(params=["launcher", "gloo"])
def any_comm(request, comm):
    """Communicator of all ranks: that of the launcher (MPI or torchrun), and over torch.distributed."""
    if isinstance(comm, SerialComm) or request.param == "launcher":
        return comm
    from syncbn.torch import TorchComm

    if isinstance(comm, TorchComm):
        pytest.skip("torchrun's ranks communicate over gloo already")
    return TorchComm.of(request.getfixturevalue("process_group"))
