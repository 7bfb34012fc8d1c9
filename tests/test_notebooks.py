"""The teaching notebook runs from top to bottom, and shows tables and figures; its own assertions check its claims."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/notebooks/normalization.ipynb"

nbformat = pytest.importorskip("nbformat", reason="needs the dependency group test: pip install --group test")
pytest.importorskip("nbclient", reason="needs the dependency group test: pip install --group test")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after all its cells have run, in another process, whose sockets raise warnings when it ends."""
    path = tmp_path_factory.mktemp("notebooks") / "executed.ipynb"
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", f"--output={path}", str(NOTEBOOK)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return nbformat.read(path, as_version=4)


def outputs(notebook, kind):
    """Return the outputs of a MIME type in the order of the cells; "text" are those of print."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = {"text": output["text"]} if output["output_type"] == "stream" else output["data"]
            found += [data[kind]] if kind in data else []
    return found


@pytest.mark.timeout(300)  # a kernel starts and trains a dozen small networks
def test_the_notebook_runs(executed):
    assert len(outputs(executed, "image/png")) >= 6
    assert "a constant channel gives 0.0" in "".join(outputs(executed, "text"))
    (network,) = (text for text in outputs(executed, "text/plain") if text.startswith("WeightNorm("))
    assert "(module): Dense(in_features=3, out_features=2, bias=True)" in network


@pytest.mark.timeout(300)
def test_it_shows_the_summary_and_the_epochs_as_tables(executed):
    summary, history = outputs(executed, "text/html")
    assert "<caption>Model: Sequential</caption>" in summary
    assert "<th>validation accuracy</th>" in history
    assert history.count("<tr>") == 1 + 4  # the head and four epochs
    assert "<progress" not in history  # it is removed at the end


def test_it_is_stored_without_outputs():
    """They would be out of date, and most of the size."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 15
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert NOTEBOOK.stat().st_size < 30_000


def test_it_covers_the_normalizers():
    text = NOTEBOOK.read_text(encoding="utf-8")
    for word in (
        "BatchNorm(",
        "LayerNorm(",
        "GroupNorm(",
        "InstanceNorm(",
        "WeightNorm(",
        "running",
        "momentum",
        "eps",
    ):
        assert word in text, word
