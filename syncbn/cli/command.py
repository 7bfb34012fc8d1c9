"""The base class of the subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syncbn._core.threads import usable_cores
from syncbn.cli import ranks
from syncbn.cli.errors import CommandError, UsageError
from syncbn.cli.launch import run_on_ranks
from syncbn.comm import Communicator, SerialComm, world
from syncbn.comm.mpi_import import import_mpi

RANKS_PER_CORE = 32
"""Ranks that this command starts at most: more processes would use up the memory of the machine."""


class Command:
    """A subcommand with its options, which the constructor checks before MPI is initialized.

    Raises
    ------
    UsageError, CommandError
        An option is not valid, or a requirement of the command is missing.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ranks: int = _ranks(options)

    def start(self, arguments: Sequence[str]) -> int:
        """Launch the ranks if there are several and no mpiexec started this process; otherwise do the work."""
        if self.ranks > 1 and not ranks.under_mpiexec():
            return self.launch(arguments)
        return self.run(open_world(self.ranks))

    def run(self, comm: Communicator) -> int:
        """Do the work on this rank and return the exit code. Collective."""
        raise NotImplementedError(f"{type(self).__name__} does not implement run")

    def launch(self, arguments: Sequence[str]) -> int:
        """Start the ranks of the command with these arguments and return the exit code."""
        return run_on_ranks(arguments, self.ranks)

    def interrupted(self) -> str:
        """Return the message after Ctrl-C."""
        return "interrupted"


def open_world(expected: int) -> Communicator:
    """Return the communicator of all ranks, or a serial one if no mpiexec started this process. Collective.

    Raises
    ------
    CommandError
        mpi4py is missing, or the number of ranks of MPI differs from that of mpiexec.
    """
    if not ranks.under_mpiexec():
        return SerialComm()
    try:
        comm = world()
    except (ImportError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    if comm.size != expected:
        raise CommandError(
            f"mpiexec started {expected} ranks, but the MPI library of mpi4py has {comm.size}: "
            "mpiexec belongs to another MPI library"
        )
    return comm


def _ranks(options: argparse.Namespace) -> int:
    requested: int | None = options.ranks
    if requested is not None and requested < 1:
        raise UsageError(f"argument --ranks: must be at least 1, got {requested}")
    if not ranks.under_mpiexec():
        most = max(64, RANKS_PER_CORE * usable_cores())
        if requested is not None and requested > most:
            raise UsageError(
                f"argument --ranks: must be at most {most} on the {usable_cores()} cores of this machine, "
                f"got {requested} (use mpiexec for more machines)"
            )
        return int(options.ranks_default if requested is None else requested)
    started = ranks.world_size()
    if requested is not None and started is not None and requested != started:
        raise UsageError(f"argument --ranks: got {requested}, but mpiexec started {started}")
    return started or requested or mpi_ranks()


def mpi_ranks() -> int:
    """Return the number of ranks of MPI; 1 without mpi4py."""
    try:
        return int(import_mpi().COMM_WORLD.Get_size())
    except ImportError:
        return 1
