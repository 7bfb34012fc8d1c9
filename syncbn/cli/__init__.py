"""The ``syncbn`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from syncbn._core.environment import SettingError
from syncbn._core.threads import check_threads
from syncbn.cli import completion
from syncbn.cli.errors import CommandError, UsageError, report_error
from syncbn.cli.launch import THREAD_VARIABLES
from syncbn.cli.process import run_process
from syncbn.cli.signals import TerminatedError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the name of the command. Default: those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_process(lambda: _run(arguments))


def _check_command(arguments: list[str]) -> None:
    """Raise UsageError if there is no subcommand, or options precede it, whose values would be taken for it."""
    if not arguments:
        from syncbn.cli.commands import COMMANDS

        raise UsageError(f"a command is missing: give one of {', '.join(COMMANDS)} (syncbn --help describes them)")
    if arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version"):
        from syncbn.cli.commands import COMMANDS

        command = next((each for each in arguments if each in COMMANDS), "COMMAND")
        others = [each for each in arguments if each != command]
        raise UsageError(f"options follow the command: syncbn {' '.join([command, *others])}")


def _run(arguments: list[str]) -> int:
    """Run the command, and report expected errors in one line."""
    prog = "syncbn"
    interrupted: Callable[[], str] = lambda: "interrupted"  # noqa: E731
    try:
        check_threads(THREAD_VARIABLES)  # before OpenMP reads them
        from syncbn.cli.commands import build_parser  # loads the kernels, as SYNCBN_KERNELS selects

        _check_command(arguments)
        options, unknown = build_parser().parse_known_args(arguments)
        prog = options.prog
        if unknown:
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)} ({prog} --help lists those that there are)")
        command = options.command(options)
        interrupted = command.interrupted
        return int(command.start(arguments))
    except (UsageError, SettingError) as error:
        return report_error(prog, str(error), 2)
    except CommandError as error:
        return report_error(prog, str(error), 1)
    except MemoryError as error:
        return report_error(prog, f"not enough memory: {error}", 1)
    except (KeyboardInterrupt, TerminatedError) as error:
        code = error.code if isinstance(error, TerminatedError) else 130
        return code if completion.launched() else report_error(prog, interrupted(), code)
