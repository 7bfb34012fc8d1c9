"""Output of an uncaught exception where many ranks print theirs."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from syncbn.comm.errors import SyncError, SyncMismatchError, SyncTimeoutError, is_repeated

_LIBRARIES = {"syncbn"} | sys.stdlib_module_names
_INSTALLED = {"site-packages", "dist-packages"}
"""Directories of installed packages."""


def describe_uncaught(rank: int, error: BaseException, *, repeated: bool) -> str:
    """Return what a rank prints: the traceback of its own error, or one line where another rank prints that."""
    frames = _own_frames(error.__traceback__)
    if repeated:
        return f"[rank {rank}] {type(error).__name__}: {error}{_position(frames)}\n"
    return f"[rank {rank}] " + "".join(traceback.format_exception(type(error), error, frames))


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of ``python -m`` and mpi4py around the script."""
    rest = frames
    while rest is not None and _package(rest.tb_frame) in ("runpy", "mpi4py"):
        rest = rest.tb_next
    return rest or frames


def _position(frames: TracebackType | None) -> str:
    """Return the last line of the user's code."""
    own = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(frames) if _is_own(frame)]
    return "" if not own else f" ({own[-1][0]}, line {own[-1][1]})"


def _is_own(frame: FrameType) -> bool:
    """Return whether a frame is of the user's code: not of this library, the standard library, or another package."""
    return _package(frame) not in _LIBRARIES and _INSTALLED.isdisjoint(Path(frame.f_code.co_filename).parts)


def _package(frame: FrameType) -> str:
    """Return the package of a frame's module, also where that runs as ``__main__``."""
    module = getattr(frame.f_globals.get("__spec__"), "name", None) or frame.f_globals.get("__name__")
    return str(module).partition(".")[0]


def is_of_another_rank(error: BaseException) -> bool:
    """Return whether another rank certainly prints the traceback that explains this error."""
    heard = next((each for each in (error, error.__cause__) if isinstance(each, SyncError)), None)
    if isinstance(heard, SyncMismatchError):
        return bool(heard.errors) or is_repeated(error)
    return (heard is not None and not isinstance(heard, SyncTimeoutError)) or is_repeated(error)


def print_uncaught(rank: int, error: BaseException, *, repeated: bool) -> None:
    """Print the error at once, so that lines of ranks do not mix."""
    sys.stderr.write(describe_uncaught(rank, error, repeated=repeated))
    sys.stderr.flush()
