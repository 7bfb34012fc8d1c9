"""The ``syncbn`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from syncbn import __version__
from syncbn.cli import bench, compare, completion, doctor, ranks, scale
from syncbn.cli.command import Command, open_world
from syncbn.cli.errors import CommandError, UsageError
from syncbn.cli.parser import Parser

DESCRIPTION = "Synchronized batch normalization for CPUs, over MPI."
EPILOG = """\
exit codes:
  0  success       2    wrong arguments
  1  failure       130  interrupted by Ctrl-C

example:
  syncbn compare --ranks 4 --output results
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the name of the command. Default: those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options, unknown = build_parser().parse_known_args(arguments)
    try:
        if unknown:
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}")
        code = _run(options.command, options, arguments)
        sys.stdout.flush()
    except UsageError as error:
        code = _fail(options.prog, str(error), 2)
    except CommandError as error:
        code = _fail(options.prog, str(error), 1)
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python's flush at exit would fail
        code = 1
    if completion.launched():
        completion.report(code)
        return 0  # mpiexec prints a message for any other code; the launcher reads the report
    return code


def build_parser() -> Parser:
    """Return the parser of all subcommands."""
    parser = Parser(prog="syncbn", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"syncbn {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (compare, bench, scale, doctor):
        module.add_parser(subparsers)
    return parser


def _run(command: type[Command], options: object, arguments: list[str]) -> int:
    checked = command(options)  # type: ignore[arg-type]
    try:
        if checked.ranks > 1 and not ranks.under_mpiexec():
            return checked.launch(arguments)
        return checked.run(open_world(checked.ranks))
    except KeyboardInterrupt:
        return _fail(checked.options.prog, checked.interrupted(), 130)


def _fail(prog: str, message: str, code: int) -> int:
    if ranks.rank() == 0:
        sys.stderr.write(f"{prog}: {'' if code == 130 else 'error: '}{' '.join(message.split())}\n")
    return code
