"""All subcommands."""

from __future__ import annotations

from syncbn import __version__
from syncbn.cli import bench, claims, compare, doctor, scale
from syncbn.cli.parser import Parser

DESCRIPTION = "Synchronized batch normalization for CPUs, over MPI."
EPILOG = """\
exit codes:
  0  success       2    wrong arguments
  1  failure       130  interrupted by Ctrl-C

example:
  syncbn compare --ranks 4 --output results
"""

COMMANDS = {"compare": compare, "claims": claims, "bench": bench, "scale": scale, "doctor": doctor}


def build_parser() -> Parser:
    """Return the parser of all subcommands."""
    parser = Parser(prog="syncbn", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"syncbn {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        module.add_parser(subparsers)
    return parser
