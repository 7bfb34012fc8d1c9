"""Errors in arrays of other libraries reach all ranks, and the communicator remains usable."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import SyncMismatchError
from syncbn import functional as F

pytestmark = pytest.mark.ranks

X = np.arange(12.0).reshape(4, 3)


class Unreadable:
    """Array on another device."""

    def __dlpack__(self, **options):
        raise AssertionError

    def __dlpack_device__(self):
        return 2, 0


@pytest.mark.parametrize("wrong", [[], [[[1.0] * 3] * 4], [Unreadable()]])
def test_an_error_in_a_backward_reaches_all(comm, wrong):
    if comm.size == 1:
        pytest.skip("one rank raises its own error")
    y, _, backward = F.batch_norm(memoryview(X), comm=comm)
    with pytest.raises(SyncMismatchError if comm.rank else TypeError, match=r"dy|list|not in the memory of the CPU"):
        backward(*([y] if comm.rank else wrong))
    total = np.ones(1)
    comm.allreduce(total)
    assert total == comm.size
