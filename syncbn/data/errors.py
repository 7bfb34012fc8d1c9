"""The error of loading data."""

from __future__ import annotations

from syncbn.files import printable
from syncbn.pitfalls import see


class DataError(ValueError):
    """Data is missing, damaged or of another format; the message has the file, the problem and how to get the data.

    See Also
    --------
    syncbn.data.load : Raises it.

    Examples
    --------
    >>> from syncbn import data
    >>> try:
    ...     data.load("no such data")
    ... except data.DataError:
    ...     print("no directory with the four idx files")
    no directory with the four idx files
    """

    def __init__(self, message: str) -> None:
        entry = see("data-files")
        super().__init__(printable(message.replace(entry, "")) + entry)  # the message may be that of another DataError
