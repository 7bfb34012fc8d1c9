"""Kept pieces are found again, and only where all that determines their numbers is equal."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from syncbn.experiments.claims import CLAIMS, check, learning_rate, placement, source, work
from syncbn.experiments.claims.claim import Result
from syncbn.experiments.claims.setup import Setup
from syncbn.experiments.claims.store import Store

SETUP = Setup("smoke", (0, 1), 2, 10)
IDENTITY = {"data": "abc", "version": "1"}
LOCAL, COLLECTIVE = CLAIMS["learning-rate"], CLAIMS["exact"]
RESULT = Result({"norm": "bn", "lr": 0.1, "seed": 0}, {"error": 0.25, "steps": None}, 1.5)


@pytest.mark.parametrize("claim", [LOCAL, COLLECTIVE])
def test_a_result_is_found_again(tmp_path, claim):
    store = Store(tmp_path / "pieces", SETUP, IDENTITY)
    assert store.get(claim, RESULT.key) is None
    store.put(claim, RESULT)
    assert Store(tmp_path / "pieces", SETUP, dict(IDENTITY)).get(claim, dict(RESULT.key)) == RESULT
    assert store.get(claim, {**RESULT.key, "seed": 1}) is None


@pytest.mark.parametrize(
    ("setup", "identity"),
    [
        (replace(SETUP, effort="quick"), IDENTITY),
        (SETUP, {**IDENTITY, "data": "other"}),
        (SETUP, {**IDENTITY, "version": "2"}),
    ],
)
def test_a_result_of_another_setup_is_not_taken(tmp_path, setup, identity):
    Store(tmp_path, SETUP, IDENTITY).put(LOCAL, RESULT)
    assert Store(tmp_path, setup, identity).get(LOCAL, RESULT.key) is None


def test_the_number_of_ranks_matters_only_to_collective_pieces(tmp_path):
    more = Store(tmp_path, replace(SETUP, ranks=4), IDENTITY)
    for claim in (LOCAL, COLLECTIVE):
        Store(tmp_path, SETUP, IDENTITY).put(claim, RESULT)
    assert more.get(LOCAL, RESULT.key) == RESULT
    assert more.get(COLLECTIVE, RESULT.key) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": {}}', '{"key": 1, "numbers": 2, "seconds": 3}', "\0"])
def test_a_damaged_file_is_measured_again(tmp_path, content):
    store = Store(tmp_path, SETUP, IDENTITY)
    store.put(LOCAL, RESULT)
    (file,) = tmp_path.glob("*/*.json")
    file.write_text(content)
    assert store.get(LOCAL, RESULT.key) is None
    store.put(LOCAL, RESULT)
    assert store.get(LOCAL, RESULT.key) == RESULT


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "pieces").write_text("a file")
    store = Store(tmp_path / "pieces", SETUP, IDENTITY)
    store.put(LOCAL, RESULT)
    assert store.get(LOCAL, RESULT.key) is None


def test_code_that_measures_determines_the_name_of_a_piece(tmp_path, monkeypatch):
    """A change of a module with which claims train invalidates its pieces; texts and rules of verdicts do not."""
    store = Store(tmp_path, SETUP, IDENTITY)
    store.put(LOCAL, RESULT)
    originals = {module.__name__: inspect.getsource(module) for module in (work, learning_rate, check, placement)}

    def kept(module, old, new):
        changed = {**originals, module.__name__: originals[module.__name__].replace(old, new)}
        assert changed != originals
        monkeypatch.setattr(source.inspect, "getsource", lambda module: changed.get(module.__name__, ""))
        source._code.cache_clear()
        return store.get(LOCAL, RESULT.key) is not None

    real = inspect.getsource
    originals |= {module.__name__: real(module) for module in source.SHARED}
    try:
        assert kept(check, "< 0 else", "<= 0 else")
        assert kept(placement, "batch: int = 32", "batch: int = 33")
        assert kept(learning_rate, "Up to which learning rate", "At which learning rates")
        assert kept(learning_rate, "rates=(0.03, 3.0), depth=2", "rates=(0.03, 3.0), depth=3")  # a setting of an effort
        assert kept(learning_rate, "decades[", "other[")  # in conclude
        assert kept(learning_rate, '"""Train, and return', '# a comment\n        """Return')
        assert not kept(learning_rate, "if goal is None and", "if")
        assert not kept(work, "MOMENTUM = 0.9", "MOMENTUM = 0.8")
    finally:
        monkeypatch.undo()
        source._code.cache_clear()
