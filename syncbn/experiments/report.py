"""The files that a comparison writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syncbn.experiments.config import LR_BATCH, CompareConfig, counted
from syncbn.experiments.figure import save_figure
from syncbn.experiments.results import Run, summarize
from syncbn.experiments.table import table
from syncbn.experiments.verdict import verdict
from syncbn.experiments.versions import versions


class Report:
    """The files of a comparison: JSON with all numbers, text with table and verdict, and the figure.

    Parameters
    ----------
    directory : Path
        An existing directory. The files of an earlier comparison in it are removed.
    config : CompareConfig
    ranks : int
    data : str
        Name of the data.
    """

    def __init__(self, directory: Path, config: CompareConfig, ranks: int, data: str) -> None:
        self.json, self.text, self.figure = (directory / f"compare.{end}" for end in ("json", "txt", "png"))
        self.config = config
        self.ranks = ranks
        self.data = data
        self.runs: list[Run] = []
        self._versions = versions()
        for path in (self.json, self.text, self.figure):
            path.unlink(missing_ok=True)

    def add(self, run: Run) -> None:
        """Add a run and write it to the JSON file, so that an interruption loses only an incomplete run."""
        self.runs.append(run)
        self._write_json(complete=False)

    def finish(self) -> None:
        """Write all files."""
        self.text.write_text(self.as_text() + "\n", encoding="utf-8")
        save_figure(self.figure, self.runs, self.title)
        self._write_json(complete=True)

    @property
    def title(self) -> str:
        """Description of the comparison in one line."""
        config = self.config
        return (
            f"{self.data}, {config.network}, {counted(self.ranks, 'rank')}, {counted(config.epochs, 'epoch')}, "
            f"{counted(config.seeds, 'seed')}, learning rate {config.lr:g}·(global batch)/{LR_BATCH}"
        )

    def as_text(self) -> str:
        """Return the title, the table and the verdict."""
        cells = summarize(self.runs)
        return f"{self.title}\n\n{table(cells)}\n\n{verdict(cells, self.ranks)}"

    def as_json(self, *, complete: bool) -> dict[str, Any]:
        """Return everything as JSON values; ``complete`` is whether all runs are included."""
        cells = summarize(self.runs)
        return {
            "complete": complete,
            "verdict": verdict(cells, self.ranks) if complete else None,
            "config": {**asdict(self.config), "ranks": self.ranks},
            "versions": self._versions,
            "summary": [cell.as_json() for cell in cells],
            "runs": [run.as_json() for run in self.runs],
        }

    def _write_json(self, *, complete: bool) -> None:
        """Replace the file atomically, so that readers never find an incomplete file."""
        draft = self.json.with_suffix(".json.tmp")
        draft.write_text(dumps(self.as_json(complete=complete)), encoding="utf-8")
        draft.replace(self.json)


def dumps(value: dict[str, Any]) -> str:
    """Return standard JSON, without NaN and Infinity."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
