"""The files of a run of the claims."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syncbn.experiments.claims.chart import Chart, save_chart
from syncbn.experiments.claims.check import Check, verdict
from syncbn.experiments.claims.page import page
from syncbn.experiments.claims.runner import Finished
from syncbn.experiments.claims.setup import Setup
from syncbn.experiments.config import counted
from syncbn.experiments.report import dumps, write_text
from syncbn.experiments.versions import versions
from syncbn.files import printable


@dataclass
class ClaimsReport:
    """The report of the claims: JSON with all numbers, charts, and a page.

    Attributes
    ----------
    directory : Path
        An existing directory. The files of an earlier run in it are removed, its finished pieces are not.
    setup : Setup
    data : str
        Name of the data.
    source : str
        Argument ``--data`` by which the run can be repeated, if it is not the name.
    finished : list of Finished
    """

    directory: Path
    setup: Setup
    data: str
    finished: list[Finished] = field(default_factory=list)
    source: str = ""
    versions: dict[str, Any] = field(default_factory=versions)

    @property
    def files(self) -> dict[Path, Callable[[Path], object]]:
        """All files, each with the function that writes it; the page includes the charts, so it is the last."""
        return {
            self.directory / "figures": self._save_charts,
            self.directory / "claims.json": lambda path: write_text(path, dumps(self.as_json(complete=True))),
            self.directory / "claims.txt": lambda path: write_text(path, self.as_text() + "\n"),
            self.directory / "report.html": lambda path: write_text(
                path, page(self.as_json(complete=True), self._svg())
            ),
        }

    def __post_init__(self) -> None:
        charts = (path for end in ("svg", "png") for path in (self.directory / "figures").glob(f"*.{end}"))
        for path in (*(self.directory / name for name in ("claims.json", "claims.txt", "report.html")), *charts):
            with suppress(OSError):  # such as a directory, about which writing the file will raise the error
                path.unlink()

    def add(self, finished: Finished) -> None:
        """Add a claim and write the JSON file, so that the claims that are measured can be read."""
        self.finished.append(finished)
        with suppress(OSError):  # it is written again with the next claim
            write_text(self.directory / "claims.json", dumps(self.as_json(complete=False)))

    def as_text(self) -> str:
        """Return the verdicts with the checks behind them."""
        lines = [self.title]
        for finished in self.finished:
            checks = finished.conclusion.checks
            lines += ["", f"{finished.claim.name}: {verdict(checks)}", f"  {finished.claim.statement}"]
            lines += [f"  {MARKS[check.outcome]} {_kind(check)}{check.text} {check.evidence}" for check in checks]
        return "\n".join(lines)

    @property
    def title(self) -> str:
        """Description of the run in one line."""
        setup = self.setup
        return (
            f"{printable(self.data)}, {setup.effort}, {counted(setup.ranks, 'rank')}, "
            f"seeds {','.join(map(str, setup.seeds))}"
        )

    def as_json(self, *, complete: bool) -> dict[str, Any]:
        """Return everything as JSON values; ``complete`` is whether all claims are included."""
        return {
            "complete": complete,
            "configuration": {"data": self.data, "source": self.source or self.data, **asdict(self.setup)},
            "seeds": list(self.setup.seeds),
            "seconds": sum(finished.seconds for finished in self.finished),
            "versions": self.versions,
            "claims": [_claim_as_json(finished, self.setup) for finished in self.finished],
        }

    def _save_charts(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for stem, chart in self._charts():
            for end in ("svg", "png"):
                save_chart(directory / f"{stem}.{end}", chart)

    def _charts(self) -> list[tuple[str, Chart]]:
        return [
            (f"{finished.claim.name}-{chart.name}", chart)
            for finished in self.finished
            for chart in finished.conclusion.charts
        ]

    def _svg(self) -> dict[str, str]:
        """Return the SVG elements of all charts by the stem of their files."""
        return {
            stem: (self.directory / "figures" / f"{stem}.svg").read_text(encoding="utf-8") for stem, _ in self._charts()
        }


MARKS: dict[bool | None, str] = {True: "+", False: "-", None: "?"}
"""Marks of the outcomes of checks in text."""


def _kind(check: Check) -> str:
    return "(fact, not counted) " if check.fact else ""


def _claim_as_json(finished: Finished, setup: Setup) -> dict[str, Any]:
    claim, conclusion = finished.claim, finished.conclusion
    return {
        "name": claim.name,
        "title": claim.title,
        "statement": claim.statement,
        "verdict": verdict(conclusion.checks),
        "question": claim.question,
        "method": claim.method,
        "rule": claim.rule,
        "published": claim.published,
        "caveats": list(claim.caveats),
        "notes": [*conclusion.notes, *claim.search_notes(setup, finished.search)],
        "checks": [check.as_json() for check in conclusion.checks],
        "numbers": conclusion.numbers,
        "charts": [chart.as_json() for chart in conclusion.charts],
        "settings": asdict(claim.settings(setup)),
        "search": claim.search_table(setup, finished.search),
        "pieces": [_piece_as_json(result.key, result.numbers, result.seconds) for result in finished.results],
        "seconds": finished.seconds,
    }


def _piece_as_json(key: dict[str, Any], numbers: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {"key": key, "numbers": numbers, "seconds": seconds}
