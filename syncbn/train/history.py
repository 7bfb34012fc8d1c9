"""The records of all epochs, as a table and as curves."""

from __future__ import annotations

import os
from os import PathLike
from typing import TYPE_CHECKING, Any

from syncbn.nn._html import html_table
from syncbn.train.records import EpochRecord

_CURVES = {
    "loss": {"training": "train_loss", "validation": "test_loss"},
    "accuracy": {"training": "train_accuracy", "validation": "test_accuracy"},
}
"""Attributes of the records, by what they are of and by the name of their data."""

_RECORDS = (
    ": it is a list of EpochRecords, one for each epoch; the losses are [record.train_loss for record in history], and "
    "other fields train_accuracy, test_loss and test_accuracy"
)


class History(list[EpochRecord]):
    """List of the records of all epochs. ``print`` and notebooks show it as a table, and `plot` draws it.

    See Also
    --------
    syncbn.train.EpochRecord : Its items.

    Examples
    --------
    >>> from syncbn.train import EpochRecord, History
    >>> history = History([EpochRecord(1, 20, 1.5, 0.9, 0.3, 2.0, 0, 0.05, 0.4)])
    >>> history[-1].test_error
    0.3
    >>> axes = history.plot()  # with matplotlib
    """

    if not TYPE_CHECKING:  # a type checker reports them by itself

        def __getitem__(self, index: Any) -> Any:
            """Return an item or a slice, as that of a list."""
            if isinstance(index, str):
                raise TypeError(f"a History has no item {index!r}{_RECORDS}")
            return super().__getitem__(index)

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"a History has no attribute {name!r}{_RECORDS}", name=name, obj=self)

    def plot(self, axes: Any = None) -> Any:
        """Draw loss and accuracy over the epochs, in training and on the validation data.

        Not collective: one rank may draw. It needs matplotlib, which the extra ``cli`` installs.

        Parameters
        ----------
        axes : pair of matplotlib.axes.Axes, optional
            Axes for the loss and for the accuracy. None makes a new figure by ``matplotlib.pyplot``.

        Returns
        -------
        pair of matplotlib.axes.Axes
        """
        if isinstance(axes, (str, PathLike)):
            raise TypeError(
                f"axes must be a pair of matplotlib axes, got {axes!r}: to write a file, call "
                f"history.plot()[0].figure.savefig({os.fspath(axes)!r})"
            )
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
        for ax, (quantity, curves) in zip(axes, _CURVES.items(), strict=True):
            for data, attribute in curves.items():
                points = [(r.epoch, value) for r in self if (value := getattr(r, attribute)) is not None]
                if points:
                    ax.plot(*zip(*points, strict=True), marker="o", label=data)
            ax.set(xlabel="epoch", ylabel=quantity)
            ax.xaxis.get_major_locator().set_params(integer=True)
            if self:
                ax.legend()
        return axes

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells of the table, with the head first."""
        head = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "seconds")
        return [head, *(describe(record) for record in self)]

    def __repr__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def describe(record: EpochRecord) -> tuple[str, ...]:
    """Return the texts of an epoch: number, loss and accuracy in training and in validation, seconds."""
    losses = (f"{loss:.4f}" if loss is not None else "" for loss in (record.train_loss, record.test_loss))
    shares = (
        f"{100 * share:.1f} %" if share is not None else "" for share in (record.train_accuracy, record.test_accuracy)
    )
    (loss, test_loss), (accuracy, test_accuracy) = losses, shares
    return str(record.epoch), loss, accuracy, test_loss, test_accuracy, f"{record.seconds:.1f}"
