"""The communicator of a training whose caller names none."""

from __future__ import annotations

import sys

import pytest

from syncbn import SerialComm, SyncBatchNorm
from syncbn.nn import Dense, Sequential
from syncbn.train.errors import find_communicator


class Several(SerialComm):
    """A communicator that says that it has four ranks, like one over torch.distributed."""

    size = 4


def test_without_mpi4py_the_communicator_is_that_of_the_layers(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    comm = Several()
    assert find_communicator(None, Sequential(Dense(2, 3), SyncBatchNorm(3, comm=comm))) is comm
    assert find_communicator(None, Sequential(Dense(2, 3), SyncBatchNorm(3, comm=SerialComm()))).size == 1
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="torchrun started 4 processes"):
        find_communicator(None, Dense(2, 3))
