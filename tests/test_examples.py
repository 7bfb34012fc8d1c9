"""Each example runs on 1 and on 4 ranks and checks its own claim."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from syncbn.cli.mpiexec import mpiexec_command

ROOT = Path(__file__).parents[1]
OUTPUT = {
    "errors_reach_every_rank.py": r"rank 0 raised .*must have 16 channels.*the next call works",
    "groups_of_ranks.py": r"group 0 \(ranks 0.*mean of channel 0",
    "keras_tutorial.py": r"Total params: 51,146.*equal weights on \d ranks: True, test accuracy \d+",
    "masked_statistics.py": r"with mask +count +(\d+) .*without mask +count +(?!\1)\d+",
    "own_loop.py": r"epoch 1: loss .*epoch 2: loss .*test accuracy \d+",
    "small_batch_training.py": r"BatchNorm +test error .*SyncBatchNorm +test error",
    "synchronized_statistics.py": r"synchronized 0 \(the same bits\)",
    "torch_resnet18.py": r"SyncBatchNorm .* largest difference (\d\.\de-(0[789]|1\d)|0\.0e\+00)\nlocal",
    "tutorial_network.py": r"Total params: 51,146\nTrainable params: 51,018\nNon-trainable params: 128.*test accuracy",
    "uneven_and_empty_batches.py": r"have the bits of one process: True.*mean of the means of the ranks",
}


def test_all_examples_are_run_here():
    assert sorted(OUTPUT) == sorted(path.name for path in (ROOT / "mpi_examples").glob("*.py"))


def run_example(name, command, environment):
    """Run an example and check what it prints."""
    needed = {"torch": ["torch"], "keras": ["keras", os.environ["KERAS_BACKEND"]]}.get(name.partition("_")[0], [])
    for library in needed:
        if find_spec(library) is None:
            pytest.skip(f"{name} is not run: pip install {library}")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = subprocess.run(
        [*command, f"mpi_examples/{name}"],
        cwd=ROOT,
        env={**os.environ, **threads, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(OUTPUT[name], run.stdout, re.DOTALL), run.stdout


SLOW = pytest.mark.timeout(180)
"""Every rank imports PyTorch, which takes several seconds on a busy machine."""


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[SLOW] * n.startswith("torch_")) for n in sorted(OUTPUT)])
def test_example(name, ranks):
    command, environment = mpiexec_command(ranks)
    run_example(name, [*command, sys.executable, "-m", "mpi4py"], environment)


@SLOW
@pytest.mark.parametrize("name", [name for name in sorted(OUTPUT) if name.startswith("torch_")])
def test_an_example_under_torchrun(name):
    run_example(name, [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"], {})


@pytest.mark.parametrize("name", sorted(OUTPUT))
def test_the_docstring_has_the_command_and_the_docs_include_the_example(name):
    source = (ROOT / "mpi_examples" / name).read_text()
    assert f"mpiexec -n 4 python -m mpi4py mpi_examples/{name}" in source.split('"""')[1]
    assert f"mpi_examples/{name}" in (ROOT / "docs/examples.md").read_text()
