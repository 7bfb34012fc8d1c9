"""The page of a run of the claims: one HTML file that needs no other file, server or script."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from syncbn.files import printable

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1b1d21; --faint: #5b616b; --line: #d7d9dd;
  --card: #f3f3ef; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171b; --ink: #e6e7ea; --faint: #a3a9b3; --line: #3a3e46; --card: #1f2228; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 46rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { margin-top: 3rem; font-size: 1.25rem; } h3 { font-size: 1rem; }
a { color: inherit; }
.faint, figcaption, dt { color: var(--faint); font-size: .875rem; }
.verdicts { list-style: none; padding: 0; }
.verdicts li { display: flex; flex-wrap: wrap; gap: .25rem .75rem; padding: .5rem 0;
  border-top: 1px solid var(--line); }
.verdicts a { flex: 1 1 16rem; }
.verdict { align-self: start; padding: 0 .5rem; border: 2px solid currentColor; border-radius: .25rem; font-weight: 600;
  white-space: nowrap; }
.holds { border-style: solid; } .holds-in-part { border-style: dashed; }
.does-not-hold { border-style: double; border-width: 4px; } .not-seen-here { border-style: dotted; }
blockquote { margin: .5rem 0; padding-left: .75rem; border-left: 3px solid var(--line); font-size: 1.05rem; }
ul.checks { padding: 0; list-style: none; }
ul.checks li { margin: .5rem 0; padding-left: 1.6rem; text-indent: -1.6rem; }
ul.checks b { display: inline-block; width: 1.6rem; text-indent: 0; }
figure { margin: 1.25rem 0; } svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { fill: currentColor; } svg use:hover { stroke-width: 4 !important; }
dd { margin: 0 0 .75rem; } details { margin: .75rem 0; } summary { cursor: pointer; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .8125rem; }
td, th { padding: .125rem .5rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
pre { padding: .75rem; background: var(--card); white-space: pre-wrap; }
"""

MARKS: dict[bool | None, tuple[str, str]] = {
    True: ("✓", "confirmed"),
    False: ("✗", "contradicted"),
    None: ("?", "neither confirmed nor contradicted"),
}


def page(report: Mapping[str, Any], svg: Mapping[str, str]) -> str:
    """Return the page.

    Parameters
    ----------
    report : mapping
        Contents of ``claims.json``.
    svg : mapping of str to str
        SVG documents of the charts by ``CLAIM-CHART``.
    """
    claims = report["claims"]
    sections = "\n".join(_section(claim, svg) for claim in claims)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Claims about batch normalization, measured</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Claims about batch normalization, measured</h1>
<p>{_introduction(report)}</p>
<ol class="verdicts">
{"".join(_line(claim) for claim in claims)}</ol>
<p class="faint">A claim <em>holds</em> if the data confirm all of its checks, <em>holds in part</em> if some,
<em>does not hold</em> if none and at least one is contradicted, and is <em>not seen here</em> if the data neither
confirm nor contradict any. A <em>fact</em> follows from definitions, and does not count. The rules and the default
seeds are fixed in the code. Where a rule was changed after a first quick run had been seen, the caveats say so.</p>
{sections}
<h2 id="repeat">How to repeat it</h2>
<pre>{escape(_command(report))}</pre>
<dl>{_definitions(report["versions"])}</dl>
</body>
</html>
"""


def _introduction(report: Mapping[str, Any]) -> str:
    setup = report["configuration"]
    seeds = ", ".join(map(str, report["seeds"]))
    few = " Few seeds: the intervals are wide." if len(report["seeds"]) < 5 else ""
    return escape(
        f"Images: {printable(setup['data'])}. Effort: {setup['effort']}, on {setup['ranks']} "
        f"rank{'s' * (setup['ranks'] > 1)}, seeds {seeds}.{few} "
        f"Work: {report['seconds'] / 60:.1f} minutes, of which ranks do parts side by side."
    )


def _command(report: Mapping[str, Any]) -> str:
    setup = report["configuration"]
    words = ["syncbn", "claims", *(claim["name"] for claim in report["claims"])]
    words += ["--ranks", str(setup["ranks"]), "--seeds", ",".join(map(str, report["seeds"]))]
    words += ["--data", printable(setup["source"])]
    words += [] if setup["effort"] == "full" else [f"--{setup['effort']}"]
    return shlex.join([*words, "--output", "claims"])


def _line(claim: Mapping[str, Any]) -> str:
    return f'<li><a href="#{claim["name"]}">{escape(claim["statement"])}</a>{_badge(claim["verdict"])}</li>\n'


def _badge(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def _section(claim: Mapping[str, Any], svg: Mapping[str, str]) -> str:
    name = claim["name"]
    figures = "".join(_figure(chart, svg[f"{name}-{chart['name']}"]) for chart in claim["charts"])
    notes = "".join(f"<p>{escape(note)}</p>" for note in claim["notes"])
    texts = {title: claim[title.lower()] for title in ("Question", "Method", "Rule", "Published")}
    caveats = "".join(f"<li>{escape(caveat)}</li>" for caveat in claim["caveats"])
    return f"""<h2 id="{name}">{escape(claim["title"])} {_badge(claim["verdict"])}</h2>
<blockquote>{escape(claim["statement"])}</blockquote>
<ul class="checks">{"".join(map(_check, claim["checks"]))}</ul>
{figures}{notes}
<dl>{_definitions(texts)}<dt>Caveats</dt><dd><ul>{caveats}</ul></dd></dl>
{_search(claim["search"])}<details><summary>Settings</summary><pre>{escape(json.dumps(claim["settings"]))}</pre></details>
"""


def _check(check: Mapping[str, Any]) -> str:
    mark, meaning = MARKS[check["outcome"]]
    text, evidence = escape(check["text"]), escape(check["evidence"])
    text += ' <span class="faint">(a fact, not counted in the verdict)</span>' if check["fact"] else ""
    return f'<li><b title="{meaning}">{mark}</b>{text}<br><span class="faint">{evidence}</span></li>'


def _figure(chart: Mapping[str, Any], svg: str) -> str:
    label = escape(f"{chart['title']}: {chart['y_label']} by {chart['x_label']}")
    element = re.sub(r"^.*?<svg ", f'<svg role="img" aria-label="{label}" ', svg, count=1, flags=re.DOTALL)
    return f"<figure>{element}<figcaption>{escape(chart['note'])}</figcaption></figure>\n"


def _search(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return (
        '<details><summary>Search of the learning rates</summary><p class="faint">On images that are neither '
        "trained on nor tested, with a seed of its own. The lowest error decides; if steps are given, the fewest.</p>"
        f'<div class="scroll" tabindex="0"><table><tr>{head}</tr>{body}</table></div></details>\n'
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "✓" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _definitions(entries: Mapping[str, Any]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in entries.items())
