"""README shows the output of the demo, and its links are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
