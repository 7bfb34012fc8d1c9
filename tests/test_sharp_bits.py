"""The page of pitfalls has an entry for each name in an error text, quotes the texts, and shows code that works."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from syncbn import SerialComm
from syncbn.nn import SGD, Dense, Sequential
from syncbn.pitfalls import PAGE
from syncbn.train import Trainer

ROOT = Path(__file__).resolve().parents[1]

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")

SOURCES = [path for path in (ROOT / "syncbn").rglob("*.py") if path.name != "pitfalls.py"]

NAMED = {entry for path in SOURCES for entry in re.findall(r"""\bsee\(["'](.*?)["']\)""", path.read_text("utf-8"))}


def entries(text):
    """Return the anchors of the headings, as MyST and GitHub make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_page_has_an_entry_for_each_name_in_an_error_text():
    assert len(NAMED) > 30
    assert entries(TEXT) >= NAMED


MESSAGES = re.split("^#### ", TEXT.partition("\n## Error messages\n")[2], flags=re.MULTILINE)[1:]
"""Entries about messages."""


def test_an_error_text_names_each_entry_about_a_message():
    assert len(MESSAGES) > 30
    assert entries("\n".join("# " + entry.splitlines()[0] for entry in MESSAGES)) <= NAMED


def texts(path):
    """Return the strings of a source file, without the values in them."""
    return [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if type(node) is ast.Constant]


def test_each_entry_quotes_its_message():
    constants = "\n".join(text for path in SOURCES for text in texts(path) if isinstance(text, str))
    for entry in MESSAGES:
        quotes = re.findall('"([^"]+)"', re.sub("```.*?```|`[^`]*`", "", entry, flags=re.DOTALL))
        assert quotes, entry
        for quote in quotes:  # numbers, and "..." for others, are values
            parts = re.split(r"\S*\d\S*|\.\.\.", " ".join(quote.split()))
            assert max(parts, key=len).strip(" ,") in constants, quote


def test_the_page_shows_how_to_take_the_state_out_of_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = Sequential(Dense(4, 3))
    x, y = np.random.default_rng(0).standard_normal((8, 4), np.float32), np.zeros(8, int)
    Trainer(trained, SGD(trained.parameters(), 0.1), SerialComm()).fit(x, y, 1, checkpoint="run.npz")
    model = Sequential(Dense(4, 3))
    with np.load("run.npz") as file, pytest.raises(ValueError, match=r"Trainer\.resume"):
        model.load_state_dict(file)
    for page in ("sharp-bits", "checkpoints"):
        (code,) = re.findall(r"```python\n(with np.load.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.DOTALL)
        model = Sequential(Dense(4, 3))
        exec(code, {"np": np, "model": model})
        for name, value in trained.state_dict().items():
            np.testing.assert_array_equal(model.state_dict()[name], value)
