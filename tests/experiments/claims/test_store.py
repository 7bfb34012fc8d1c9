"""Kept pieces are found again, and only where all that determines their numbers is equal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncbn.experiments.claims import CLAIMS
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
