"""Standard streams that never stop the work: what cannot be shown is dropped."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Output(io.RawIOBase):
    """A standard stream that raises no error: after the first one it drops what is written.

    Parameters
    ----------
    descriptor : int

    Attributes
    ----------
    error : OSError or None
        The first error.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.descriptor

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return os.isatty(self.descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: Any) -> int:
        """Write bytes, or drop them; return the number of bytes that are done with."""
        while self.error is None:
            try:
                return os.write(self.descriptor, content)
            except BlockingIOError:  # another process has made the terminal or the pipe non-blocking
                select.select([], [self.descriptor], [])
            except OSError as error:
                self.error = error
        return len(content)


@contextmanager
def standard_streams() -> Iterator[Output]:
    """Replace ``sys.stdout`` and ``sys.stderr`` during the ``with`` block, and return the new stdout's `Output`.

    Characters that the encoding lacks are written as ``?``. A stream that was closed when the process started drops all
    that is written. Streams that are not those of the process, such as those of a notebook, are not replaced.
    """
    _open_missing_descriptors()
    outputs = Output(1), Output(2)
    previous = sys.stdout, sys.stderr
    for name, output in zip(("stdout", "stderr"), outputs, strict=True):
        stream = getattr(sys, name)
        if stream is None:
            output.error = OSError(errno.EBADF, "it is closed")
        if stream is None or stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _text(output, stream))
    try:
        yield outputs[0]
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = previous


def _text(output: Output, stream: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="replace",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )


def _open_missing_descriptors() -> None:
    """Open closed descriptors of the standard streams, or else the next file would receive what is written to them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
