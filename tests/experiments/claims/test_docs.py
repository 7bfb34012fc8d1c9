"""The page of the docs lists the claims as the command does."""

from __future__ import annotations

import re
from pathlib import Path

from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.check import VERDICTS

PAGE = (Path(__file__).parents[3] / "docs/claims.md").read_text()


def test_the_table_has_every_claim_with_its_statement():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]*) \|$", PAGE, re.MULTILINE))
    assert {name: rows.get(name) for name in CLAIMS} == {name: claim.statement for name, claim in CLAIMS.items()}


def test_the_verdicts_are_explained():
    assert re.findall(r"^\| ((?:holds|does|not)[a-z ]*) \|", PAGE, re.MULTILINE) == list(VERDICTS)


def test_the_claims_that_ranks_measure_together_are_named():
    sentence = re.search(r"\*\*Ranks\.\*\* (.*?) train on all ranks together", PAGE, re.DOTALL)[1]
    assert set(re.findall("`([a-z-]+)`", sentence)) == {name for name, claim in CLAIMS.items() if claim.collective}
