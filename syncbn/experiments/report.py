"""The files that a comparison writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syncbn.experiments.config import LR_BATCH, CompareConfig, counted
from syncbn.experiments.figure import save_figure
from syncbn.experiments.results import Run, summarize
from syncbn.experiments.table import table
from syncbn.experiments.verdict import verdict
from syncbn.experiments.versions import versions
from syncbn.files import printable, write_atomically


class Report:
    """The files of a comparison: JSON with all numbers, text with table and verdict, and the figure.

    Parameters
    ----------
    directory : Path
        An existing directory. The files of an earlier comparison in it are renamed to ``previous-compare.json`` and so
        on, or removed if it was not completed.
    config : CompareConfig
    ranks : int
    data : str
        Name of the data.
    """

    def __init__(self, directory: Path, config: CompareConfig, ranks: int, data: str) -> None:
        self.json: Path = directory / "compare.json"
        self.text: Path = directory / "compare.txt"
        self.figure: Path = directory / "compare.png"
        self.config = config
        self.ranks = ranks
        self.data = data
        self.runs: list[Run] = []
        self._versions = versions()
        completed = self.text.is_file()
        for path in (self.json, self.text, self.figure):
            with suppress(OSError):  # such as a directory, about which writing the file will raise the error
                if completed and path.is_file():
                    path.replace(path.with_name(f"previous-{path.name}"))
                else:
                    path.unlink()

    def add(self, run: Run) -> None:
        """Add a run and write it to the JSON file, so that an interruption loses only an incomplete run.

        If the file cannot be written, the comparison continues: it is written again with the next run.
        """
        self.runs.append(run)
        with suppress(OSError):
            write_text(self.json, dumps(self.as_json(complete=False)))

    @property
    def files(self) -> dict[Path, Callable[[Path], object]]:
        """All files, each with the function that writes it."""
        return {
            self.figure: lambda path: save_figure(path, self.runs, self.title),
            self.json: lambda path: write_text(path, dumps(self.as_json(complete=True))),
            self.text: lambda path: write_text(path, self.as_text() + "\n"),
        }

    @property
    def title(self) -> str:
        """Description of the comparison in one line."""
        config = self.config
        counts = (self.ranks, "rank"), (config.epochs, "epoch"), (config.seeds, "seed")
        rates = " and ".join(f"{lr:g}·(global batch)/{LR_BATCH}" for lr in sorted(config.lr))
        return (
            f"{printable(self.data)}, {config.network}, {', '.join(counted(*count) for count in counts)}, "
            f"learning rate{'s' * (len(config.lr) > 1)} {rates}"
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


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically, so that readers never find an incomplete one; write to a device or a FIFO directly."""
    content = text.encode()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_atomically(path, content)


def dumps(value: dict[str, Any]) -> str:
    """Return standard JSON, in ASCII and without NaN and Infinity, which every terminal and reader takes."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
