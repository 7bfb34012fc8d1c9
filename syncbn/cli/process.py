"""The frame of each process of a command: streams, signals, the lifeline and the end."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable

from syncbn.cli import completion, lifeline, ranks
from syncbn.cli.errors import report_error
from syncbn.cli.signals import signals_as_exceptions
from syncbn.cli.streams import standard_streams


def run_process(work: Callable[[], int]) -> int:
    """Call ``work``, which returns an exit code, and return the exit code of this process.

    The work goes on if its output cannot be shown, which makes the exit code 1. A rank that was interrupted exits at
    once, after the ``finally`` clauses of its work: MPI_Finalize would wait for ranks that were interrupted too.
    """
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")  # or else UCX takes SIGHUP, when MPICH loads it, to print messages
    with standard_streams() as output, signals_as_exceptions():
        if completion.launched():
            lifeline.follow(completion.directory())
        try:
            code = work()
        except SystemExit as end:  # of argparse, or a signal
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        if code == 0 and output.error is not None:
            code = 1
            if output.error.errno != errno.EPIPE:  # as of a reader, such as head, that has seen enough
                report_error("syncbn", f"can't write to the standard output: {output.error.strerror}", code)
        if code > 128 and (completion.launched() or ranks.under_mpiexec()):
            _exit_at_once(code)
    if completion.launched():
        completion.report(code)
        return 0  # mpiexec prints a message for any other code; the launcher reads the report
    return code


def _exit_at_once(code: int) -> None:
    """Exit without MPI_Finalize.

    mpiexec kills all ranks when one exits, and rank 0 writes files, so the others let it exit first. The messages of
    mpiexec about killed ranks are not shown if the command has launched it; if not, all exit at the same time.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if ranks.rank() > 0 and completion.launched():
        time.sleep(lifeline.GRACE_SECONDS)
    os._exit(0 if completion.launched() else code)
