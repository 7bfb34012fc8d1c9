"""The code of the guides runs, on two ranks; `tests/test_readme.py` runs the training loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_readme import code_blocks, run

ROOT = Path(__file__).parents[1]
NETWORK = """
import numpy as np
from syncbn import BatchNorm, MPIComm, SyncBatchNorm, data, nn
from syncbn.train import Trainer
comm = MPIComm()
model = nn.Sequential(nn.Dense(784, 8), SyncBatchNorm(8, comm=comm), nn.ReLU(), nn.Dense(8, 10))
images = data.prepare(data.load(), flat=True)
x, y = images.x_train[:320], images.y_train[:320]
"""
GIVEN = {  # the names that a page takes as given, and the number of its first blocks that another test runs
    "layers": (
        NETWORK + "x, dy, r, gradient = np.random.default_rng(comm.rank).normal(size=(4, 2, 64)).astype(np.float32)\n"
        "weight, bias, mask = np.ones(64, np.float32), np.zeros(64, np.float32), np.array([True, False])\n",
        0,
    ),
    "training": (
        NETWORK + "if comm.rank == 0:\n    np.save('x.npy', x)\n    np.save('y.npy', y)\ncomm.barrier()\n",
        3,
    ),
    "checkpoints": (NETWORK, 0),
    "monitoring": (
        NETWORK + "trainer = Trainer(model, nn.SGD(model.parameters(), lr=0.05), comm, batch_per_rank=8)\n",
        0,
    ),
    "onnx": (NETWORK, 0),
    "coming-from": (
        NETWORK + "import torch\nlayer, torch_layer = BatchNorm(3), torch.nn.BatchNorm1d(3)\n"
        "keras_layer = type('', (), {'get_weights': lambda self: [np.ones(64)] * 4})()\n",
        0,
    ),
}
NEEDED = {"onnx": ["onnx"], "coming-from": ["torch"], "training": ["matplotlib"], "monitoring": ["matplotlib"]}


@pytest.mark.timeout(150)  # coming-from.md imports PyTorch
@pytest.mark.parametrize("page", GIVEN)
def test_the_code_of_a_guide_runs(page, tmp_path):
    for library in NEEDED.get(page, []):
        pytest.importorskip(library)
    given, skipped = GIVEN[page]
    blocks = code_blocks((ROOT / f"docs/{page}.md").read_text(encoding="utf-8"))[skipped:]
    code = (
        "\n".join(blocks)
        .replace("images.x_train", "images.x_train[:320]")
        .replace("images.y_train", "images.y_train[:320]")
    )
    run(given + code, tmp_path, 2)


def test_a_name_that_no_longer_exists_is_an_error(tmp_path):
    with pytest.raises(AssertionError, match="FrozenBatchNormalization"):
        run(GIVEN["layers"][0] + "from syncbn import FrozenBatchNormalization", tmp_path, 0)
