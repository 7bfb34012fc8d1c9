"""The pages about the claims show the verdicts and numbers of the committed run."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

import pytest

from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.setup import SEEDS

ROOT = Path(__file__).parents[1]
RUN = ROOT / "docs/claims"
PAGE = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
REPORT = json.loads((RUN / "claims.json").read_text(encoding="utf-8"))
MEASURED = {claim["name"]: claim for claim in REPORT["claims"]}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ROWS = {
    name: (verdict, seen)
    for name, verdict, seen in re.findall(r"^\| `([\w-]+)` \| ([\w ]+) \| (.+) \|$", PAGE, re.MULTILINE)
}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?", text.replace("−", "-")))


def test_the_run_is_a_full_one_of_all_claims():
    assert REPORT["complete"]
    assert REPORT["configuration"]["effort"] == "full"
    assert REPORT["seeds"] == list(SEEDS["full"])
    assert list(MEASURED) == list(CLAIMS)


def test_the_table_has_the_verdicts():
    assert {name: verdict for name, (verdict, _) in ROWS.items()} == {
        name: claim["verdict"] for name, claim in MEASURED.items()
    }


@pytest.mark.parametrize("name", CLAIMS)
def test_the_numbers_of_the_table_are_those_of_the_json(name):
    claim = MEASURED[name]
    evidence = " ".join(f"{check['text']} {check['evidence']}" for check in claim["checks"])
    shown = numbers(ROWS[name][1])
    assert len(shown) >= 2
    assert shown <= numbers(" ".join([evidence, *claim["notes"], claim["statement"]]))


@pytest.mark.parametrize("file", ["claims.txt", "report.html"])
def test_the_other_files_are_of_the_same_run(file):
    text = (RUN / file).read_text(encoding="utf-8")
    for claim in REPORT["claims"]:
        for words in (claim["statement"], *(check["evidence"] for check in claim["checks"])):
            assert (escape(words) if file.endswith(".html") else words) in text


@pytest.mark.parametrize("page", ["README.md", "docs/claims.md"])
def test_the_counts_of_verdicts(page):
    counts = {"holds": 0, "holds in part": 0, "does not hold": 0, "not seen here": 0}
    for claim in REPORT["claims"]:
        counts[claim["verdict"]] += 1
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    said = re.search(r"(\w+) hold, (\w+) hold in part, (\w+) do(?:es)? not hold, and (\w+) (?:is|are) not seen", text)
    assert said is not None
    assert [NUMBERS.index(word.lower()) for word in said.groups()] == list(counts.values())
