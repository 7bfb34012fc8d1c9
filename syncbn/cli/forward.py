"""Output of a process, forwarded to the standard streams."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from syncbn.cli import terminal

JOIN_SECONDS = 2.0
"""Time to wait for the rest of the output; a process that outlives the one that was started keeps the pipe open."""


@contextmanager
def forwarded(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Forward the output of a process, whose stdout and stderr are pipes, until the end of the ``with`` block.

    The process can always write, whatever happens to the standard streams of this one. At an exception the rest of the
    output is dropped, because mpiexec prints messages when its ranks are terminated, and a progress bar is removed.
    """
    dropped = threading.Event()
    threads = [
        threading.Thread(target=_copy, args=(os.dup(pipe.fileno()), stream, dropped), daemon=True)
        for pipe, stream in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        if pipe is not None
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        dropped.set()
        terminal.clear_line()
        raise
    for thread in threads:
        thread.join(JOIN_SECONDS)


def _copy(descriptor: int, stream: TextIO, dropped: threading.Event) -> None:
    with open(descriptor, "rb", buffering=0) as pipe:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while content := pipe.read(65536):
            if not dropped.is_set():
                with suppress(OSError, ValueError):  # the stream is full or closed
                    if hasattr(stream, "buffer"):
                        stream.buffer.write(content)
                    else:  # that of a notebook, or a StringIO
                        stream.write(decoder.decode(content))
                    stream.flush()
