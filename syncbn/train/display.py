"""Displays of `Trainer.fit` on rank 0: a bar on a terminal, a table in a notebook, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
from contextlib import suppress
from html import escape
from time import monotonic
from typing import Any

from syncbn.train.history import History, describe
from syncbn.train.records import Position, Progress

_REFRESH_SECONDS = 0.1


class Display:
    """Shows nothing; the base class of the others.

    Parameters
    ----------
    history : History
        Records, to which `Trainer.fit` adds those of completed epochs.
    """

    def __init__(self, history: History) -> None:
        self.history = history

    def step(self, done: Progress, position: Position) -> None:
        """Show that a step is completed, with the averages over the epoch so far."""

    def epoch(self, epochs: int) -> None:
        """Show the last record of the history."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """Remove what is shown only during training."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def make_display(progress: bool | None, rank: int, history: History) -> Display:
    """Return the display of a rank, which shows nothing if ``progress`` is False or the rank is not 0.

    None shows progress on a terminal and in a notebook only.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    notebook, terminal = hasattr(shell, "kernel"), sys.stderr is not None and sys.stderr.isatty()
    if rank or progress is False or not (progress or notebook or terminal):
        return Display(history)
    if notebook:
        return _Notebook(history)
    if terminal:
        with suppress(ImportError):
            return _Bar(history)
    return _Lines(history)


class _Lines(Display):
    """Writes a line for each epoch to stderr."""

    def epoch(self, epochs: int) -> None:
        self.note(_line(self.history, epochs))

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class _Bar(Display):
    """Draws a bar for the running epoch on stderr, below a line for each completed epoch."""

    def __init__(self, history: History) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        super().__init__(history)
        self.console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[averages]}"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.task = self.bar.add_task("", averages="")

    def step(self, done: Progress, position: Position) -> None:
        if done.step == 1:
            self.bar.reset(self.task)  # the remaining time is that of the epoch
        self.bar.start()
        self.bar.update(
            self.task,
            completed=done.step,
            total=done.steps,
            description=f"epoch {done.epoch}/{done.epochs}",
            averages=_averages(position),
        )

    def epoch(self, epochs: int) -> None:
        self.note(_line(self.history, epochs))

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            self.bar.stop()


class _Notebook(Display):
    """Shows the table of completed epochs, and below it the running epoch."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.handle: Any = None
        self.running = False
        self.shown = 0.0

    def step(self, done: Progress, position: Position) -> None:
        if monotonic() - self.shown < _REFRESH_SECONDS:
            return
        self.running = True
        self._show(
            f"epoch {done.epoch}/{done.epochs} <progress value={done.step} max={done.steps}></progress> "
            f"{done.step}/{done.steps} {escape(_averages(position))}"
        )

    def epoch(self, epochs: int) -> None:  # noqa: ARG002 (the table numbers the epochs)
        self.running = False
        self._show("")

    def note(self, text: str) -> None:
        self._show(escape(text))

    def close(self) -> None:
        if self.running:
            self._show("")

    def _show(self, below: str) -> None:
        from IPython.display import HTML, display

        page = HTML((self.history._repr_html_() if self.history else "") + below)
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)
        self.shown = monotonic()


def _averages(position: Position) -> str:
    loss, accuracy = position.loss_sum / position.samples, 1 - position.wrong / position.samples
    return f"loss {loss:.4f}, accuracy {100 * accuracy:.1f} %"


def _line(history: History, epochs: int) -> str:
    """Return the line of the last epoch, such as ``epoch 1/3: loss 0.5234, accuracy 81.2 %, …``."""
    head, cells = history.rows()[0], describe(history[-1])
    texts = (f"{name} {cell}" for name, cell in zip(head[1:-1], cells[1:-1], strict=True) if cell)
    return f"epoch {cells[0]}/{epochs}: {', '.join(texts)}, {cells[-1]} s"
