"""README shows the output of the demo, its links are valid, and its code and that of how-to guides runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from syncbn import nn, train
from syncbn.cli.mpiexec import mpiexec_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DEMO = ROOT / "docs/demo"


def test_the_table_is_the_demo_s_output():
    shown = re.search(r"<!-- demo begin -->\n```text\n(.*)```\n<!-- demo end -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == (DEMO / "compare.txt").read_text().strip()


def test_the_numbers_of_the_table_are_those_of_the_json():
    results = json.loads((DEMO / "compare.json").read_text())
    table = (DEMO / "compare.txt").read_text()
    assert results["verdict"] in table
    assert results["config"]["seeds"] >= 3


def test_every_link_to_a_file_is_valid():
    for target in re.findall(r"\]\((?!https:)([^)#]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def run(code: str, folder: Path, ranks: int) -> str:
    """Run a script, in one process without mpiexec or on ranks, and return its output."""
    command, extra = mpiexec_command(ranks) if ranks else ([], {})
    (folder / "script.py").write_text(code)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [*command, sys.executable, *(["-m", "mpi4py"] if ranks else []), "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **threads, **extra},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("ranks", [0, 3])
def test_the_code_of_the_readme_runs(tmp_path, ranks):
    layer, loop = code_blocks(README)
    run(layer, tmp_path, ranks)
    output = run(loop, tmp_path, ranks)
    (error,) = re.findall(r"error=(0\.\d+)", output)  # of rank 0 alone
    assert float(error) < 0.25
    assert (tmp_path / "model.npz").exists()


@pytest.mark.parametrize("ranks", [0, 3])
def test_the_loop_of_the_how_to_guide_goes_on_where_it_has_stopped(tmp_path, ranks):
    section = (ROOT / "docs/training.md").read_text().split("## Write your own training loop")[1].split("\n## ")[0]
    loop, loading = code_blocks(section)
    begin, train = loop.split("train.broadcast_parameters(model, world)\n")
    for shown, shorter in (
        ("range(2)", "range(start, start + 1)"),
        ("order.batches(epoch)", "order.batches(epoch, order.steps - 100)"),
        ("optimizer.zero_grad()", "optimizer.zero_grad(); world.rank or print(f'{loss=}')"),
    ):
        assert train.count(shown) == 1
        train = train.replace(shown, shorter)
    script = begin + loading.replace("...\n", train) + "print(f'epoch {epoch} of rank {world.rank}.')\n"
    outputs = [run(script, tmp_path, ranks) for _ in range(2)]
    for epoch, output in enumerate(outputs):
        assert all(f"epoch {epoch} of rank {rank}." in output for rank in range(max(ranks, 1)))
    losses = [float(re.findall(r"loss=(\S+)\n", output)[0]) for output in outputs]
    assert losses[1] < 0.7 * losses[0]  # the first step of the second run begins where the first run has stopped


def test_the_schedule_of_the_how_to_guide():
    section = (ROOT / "docs/training.md").read_text().split("## Change the learning rate")[1].split("\n## ")[0]
    (code,) = code_blocks(section)
    optimizer = nn.SGD(nn.Dense(2, 1).parameters(), lr=1.0)
    used = []
    exec(
        code.replace("...", "used.append(optimizer.lr)"),
        {"nn": nn, "optimizer": optimizer, "order": train.DataOrder(100, 5, 0), "used": used},
    )
    assert len(used) == 200
    assert max(used) == used[100] == 0.05
    assert used[0] == pytest.approx(0.0005)
    assert used[-1] < 0.0001


def test_package_indexes_see_no_relative_links(tmp_path):
    def description(**environment: str) -> str:
        code = "from setuptools.build_meta import prepare_metadata_for_build_wheel as f; import sys; f(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (metadata,) = tmp_path.glob("*.dist-info/METADATA")
        return metadata.read_text().partition("\n\n")[2]

    files = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(files) > 5
    plain = description(SYNCBN_REPOSITORY="")
    assert not re.search(r"\]\((?!https?:)", plain)
    assert "See also CONTRIBUTING.md and CHANGELOG.md" in plain
    linked = description(SYNCBN_REPOSITORY="https://example.org/syncbn/blob/v1/")
    assert not re.search(r"\]\((?!https?:)", linked)
    assert "[CONTRIBUTING.md](https://example.org/syncbn/blob/v1/CONTRIBUTING.md)" in linked
    assert "(https://example.org/syncbn/blob/v1/docs/demo/compare.png?raw=true)" in linked


@pytest.mark.parametrize("page", ["README.md", "docs/install.md", "docs/tutorial.md"])
def test_nothing_promises_a_package_index(page):
    text = (ROOT / page).read_text()
    assert not re.search(r"pip install (-U )?[\"']?syncbn(\[[a-z,]+\])?[\"']?( +#.*)?$", text, re.MULTILINE)


def test_the_layers_of_the_how_to_guide():
    section = (ROOT / "docs/layers.md").read_text().split("## Write a layer")[1].split("\n## ")[0]
    names = {"np": np}
    for code in code_blocks(section):
        exec(code, names)
    rng = np.random.default_rng(0)
    x, dy, w = rng.standard_normal((8, 3)), rng.standard_normal((8, 3)), np.array([0.5, 1.0, 2.0])
    scale = names["Scale"](3)
    scale.weight.data[...] = w
    y, backward = scale(x)
    np.testing.assert_array_equal(y, x * w)
    np.testing.assert_array_equal(backward(dy), dy * w)
    np.testing.assert_allclose(scale.weight.grad, (dy * x).sum(axis=0), rtol=1e-6)
    block = names["Block"](3)
    _, backward = block(x)
    assert backward(dy).shape == (8, 3)
    assert all(parameter.grad is not None for parameter in block.parameters())
