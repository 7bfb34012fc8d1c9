"""The page of the claims: self-contained, escaped, and legible in a browser on a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from syncbn.comm import SERIAL
from syncbn.data import load
from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.report import ClaimsReport
from syncbn.experiments.claims.runner import run_claims
from syncbn.experiments.claims.setup import Setup

HOSTILE = '<img src=x onerror="alert(1)">&lt; $(rm) \x1b[31m \'"名'
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br"}


class Balanced(HTMLParser):
    """A parser that collects the tags and attributes, and fails at a tag that is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the file of a report of two claims, of data with a hostile name."""
    directory = tmp_path_factory.mktemp("page")
    setup = Setup("smoke", (0, 1), 1, 10)
    report = ClaimsReport(directory, setup, HOSTILE)
    claims = [CLAIMS["learning-rate"], CLAIMS["placement"]]
    run_claims(claims, setup, load(), SERIAL, keep=report.add)
    for path, write in report.files.items():
        write(path)
    return directory / "report.html"


def test_it_needs_no_other_file_and_no_script(page):
    parser = Balanced()
    parser.feed(page.read_text())
    parser.close()
    assert not parser.open
    assert not {"script", "img", "iframe", "object", "embed"} & set(parser.tags)
    assert parser.tags.count("svg") == 3
    for name, value in parser.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value == "data:," or value.startswith("#")
    ids = [value for name, value in parser.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in parser.attributes if name.endswith("href") and value[0] == "#"} <= set(ids)
    assert "http" not in re.sub(r"http://www.w3.org/(2000/svg|1999/xlink)|arxiv\S*", "", page.read_text())


def test_names_of_users_are_escaped(page):
    text = page.read_text()
    assert "<img" not in text
    assert "\x1b" not in text
    shown = unescape(text)
    assert HOSTILE.replace("\x1b", r"\x1b") in shown
    command = re.search(r"<pre>(syncbn claims .*?)</pre>", text, re.DOTALL)[1]
    assert unescape(command).endswith(" --smoke --output claims")


def test_verdicts_and_values_are_on_the_page(page):
    text = page.read_text()
    top = text[: text.index("<h2")]
    for name in ("learning-rate", "placement"):
        assert f'<a href="#{name}">' in top
        assert f'<h2 id="{name}">' in text
    assert len(re.findall(r'class="verdict [a-z-]+">(?:holds|does|not)', top)) == 2
    assert len(re.findall(r"<title>[^<]*test error \(%\)", text)) == 4 + 6
    assert text.count("Search of the learning rates") == 2
    assert text.count("<td>✓</td>") == 2 + 6  # the choice of each network


BLOCK = "no browser: install chromium for this test"


@pytest.mark.skipif(BROWSER is None, reason=BLOCK)
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser(page, tmp_path, scheme, width):
    """Nothing scrolls horizontally, the console has no messages, and text contrasts with the page."""
    probe = """<script>
    addEventListener("load", () => {
      document.querySelectorAll("details").forEach(e => e.open = true);
      const root = document.documentElement, style = getComputedStyle(document.body);
      const wide = [...document.querySelectorAll("body *")].filter(
        e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 1);
      const text = getComputedStyle(document.querySelector("svg text")).fill;
      parent.postMessage(JSON.stringify(
        {scroll: root.scrollWidth, inner: innerWidth, wide: wide.map(e => e.outerHTML.slice(0, 80)),
         paper: style.backgroundColor, ink: style.color, text}), "*");
    });
    </script></head>"""
    (tmp_path / "inner.html").write_text(page.read_text().replace("</head>", probe))
    (tmp_path / "outer.html").write_text(
        f'<!DOCTYPE html><iframe src="inner.html" width={width} height=800 style="border:0"></iframe>'
        "<pre id=out></pre>"
        '<script>addEventListener("message", e => document.getElementById("out").textContent = e.data)</script>'
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [
        f"--blink-settings=preferredColorScheme={scheme}",
        "--virtual-time-budget=3000",
        "--enable-logging=stderr",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "outer.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=45,
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert found["inner"] == width
    assert found["scroll"] <= width, found["wide"]
    assert not found["wide"]
    paper, ink, text = (
        np.mean([float(value) for value in re.findall(r"[\d.]+", found[name])[:3]]) for name in ("paper", "ink", "text")
    )
    assert (paper < 60) == (scheme == 0)
    assert abs(paper - ink) > 150
    assert abs(paper - text) > 150


def test_the_number_of_ranks_is_in_the_command(tmp_path):
    report = ClaimsReport(tmp_path, replace(Setup("full", (3, 4), 1, 10), ranks=7), "my data")
    for path, write in report.files.items():
        write(path)
    text = (tmp_path / "report.html").read_text()
    assert "syncbn claims --ranks 7 --seeds 3,4 --data &#x27;my data&#x27; --output claims" in text
