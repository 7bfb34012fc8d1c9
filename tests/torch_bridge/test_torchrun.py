"""Jobs without MPI in which something is forgotten or fails: ranks that are not connected, that leave or crash."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from torch_bridge.cases import torch

# isort: split
from syncbn import SyncLostRankError
from syncbn.torch import distributed

BEGIN = """
import sys, torch
from syncbn import SyncLostRankError
from syncbn.torch import SyncBatchNorm
"""

WITHOUT_GROUP = """
try:
    SyncBatchNorm(3)(torch.randn(4, 3))
except RuntimeError as error:
    sys.exit(0 if "Call torch.distributed.init_process_group" in str(error) else 1)
sys.exit(1)
"""

RANK_LEAVES = """
torch.distributed.init_process_group("gloo")
layer = SyncBatchNorm(3)
layer(torch.randn(4, 3))
if torch.distributed.get_rank() == 1:
    sys.exit(0)
try:
    layer(torch.randn(4, 3))
except SyncLostRankError as error:
    sys.exit(0 if "rank 1 exited" in str(error) else str(error))
sys.exit(1)
"""


RANK_CRASHES = """
import os
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]), world_size=2)
layer = SyncBatchNorm(3)
layer(torch.randn(4, 3))
if sys.argv[2] == "1":
    os._exit(3)
try:
    layer(torch.randn(4, 3))
except SyncLostRankError as error:
    sys.exit(0 if "rank 1 crashed" in str(error) else str(error))
sys.exit(1)
"""


@pytest.mark.timeout(150)
def test_a_rank_that_crashes_is_lost(tmp_path):
    """Gloo loses a connection at once, before a liveness check has found out why."""
    path = tmp_path / "script.py"
    path.write_text(BEGIN + RANK_CRASHES)
    ranks = [
        subprocess.Popen([sys.executable, str(path), str(tmp_path / "store"), rank], stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    try:
        errors = [rank.communicate(timeout=100)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 3], errors


def test_a_lost_connection_is_a_lost_rank(monkeypatch):
    """As if the rank is on another node, about which the liveness checks know nothing."""

    class Work:
        def is_completed(self):
            return True

        def wait(self):
            raise RuntimeError("Connection closed by peer [10.0.0.7]:1234")

    monkeypatch.setattr(distributed, "GRACE_SECONDS", 0.01)
    test = distributed._test(Work())
    assert not test()
    time.sleep(0.02)
    with pytest.raises(SyncLostRankError, match=r"gloo failed: Connection closed by peer \[10.* \(docs/.*lost-ranks\)"):
        test()


@pytest.mark.timeout(150)  # three processes import PyTorch
@pytest.mark.parametrize("script", [WITHOUT_GROUP, RANK_LEAVES], ids=["without a group", "a rank leaves"])
def test_a_mistake_is_an_error(script, tmp_path):
    assert torch.distributed.is_available()
    path = tmp_path / "script.py"
    path.write_text(BEGIN + script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(path)]
    run = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
