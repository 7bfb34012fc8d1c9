"""What the benchmark of the header leaves out, and that it leaves out nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import SyncBatchNorm
from syncbn.comm.protocol import HANDSHAKE_BYTES

pytestmark = pytest.mark.ranks


def test_bare_messages_bring_the_same_statistics_in_fewer_bytes(comm, rng):
    from header import bare_comm

    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    results, sent = [], []
    with bare_comm() as bare:
        for each in (comm, bare):
            before = each.bytes_sent
            layer = SyncBatchNorm(5, comm=each)
            y, backward = layer(x)
            results.append((y, backward(x), layer.running_var))
            sent.append(each.bytes_sent - before)
    for full, bare_result in zip(*results, strict=True):
        np.testing.assert_array_equal(full, bare_result)
    assert sent[0] - sent[1] == 2 * HANDSHAKE_BYTES - 8 * (1 + 2 * 5) - 8 * 2 * 5
