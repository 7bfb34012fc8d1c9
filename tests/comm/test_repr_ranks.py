"""On ranks: what communicators print."""

from __future__ import annotations

import pytest

from syncbn import MPIComm

pytestmark = pytest.mark.ranks


def test_communicators(comm):
    assert repr(comm) == f"MPIComm(rank {comm.rank} of {comm.size})"
    own = MPIComm()
    group = own.split(2)
    assert repr(group) == f"MPIComm(rank {comm.rank % 2} of {group.size})"
    group.free()
    own.free()
    assert repr(own) == f"MPIComm(rank {comm.rank} of {comm.size}, closed)"
