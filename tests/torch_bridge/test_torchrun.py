"""Jobs of torchrun in which something is forgotten: processes that are not connected, and a rank that leaves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torch_bridge.cases import torch

BEGIN = """
import sys, torch
from syncbn import SyncLostRankError
from syncbn.torch import SyncBatchNorm
"""

WITHOUT_GROUP = """
try:
    SyncBatchNorm(3)(torch.randn(4, 3))
except RuntimeError as error:
    sys.exit(0 if "call torch.distributed.init_process_group" in str(error) else 1)
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
