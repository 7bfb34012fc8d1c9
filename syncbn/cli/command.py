"""What every subcommand is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syncbn.cli import ranks
from syncbn.cli.errors import CommandError, UsageError
from syncbn.cli.launch import run_on_ranks
from syncbn.comm import Communicator, SerialComm, world


class Command:
    """One subcommand with its options; the constructor checks them, before MPI starts.

    Raises
    ------
    UsageError, CommandError
        An option makes no sense here, or something that the command needs is missing.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ranks = _ranks(options)

    def run(self, comm: Communicator) -> int:
        """Do the work on this rank and return the exit code. Collective."""
        raise NotImplementedError(f"{type(self).__name__} has no run")

    def launch(self, arguments: Sequence[str]) -> int:
        """Run the command with these arguments on its ranks, which no mpiexec has started, and return the exit code."""
        return run_on_ranks(arguments, self.ranks)

    def interrupted(self) -> str:
        """Return what to say after Ctrl-C."""
        return "interrupted"


def open_world(expected: int) -> Communicator:
    """Return the communicator of all ranks, or of this process alone where no mpiexec started it. Collective.

    Raises
    ------
    CommandError
        No mpi4py, or MPI sees another number of ranks than mpiexec started.
    """
    if not ranks.under_mpiexec():
        return SerialComm()
    try:
        comm = world()
    except ImportError as error:
        raise CommandError(str(error)) from error
    if comm.size != expected:
        raise CommandError(
            f"mpiexec started {expected} ranks, but mpi4py's MPI library sees {comm.size}: "
            "they belong to different MPI libraries"
        )
    return comm


def _ranks(options: argparse.Namespace) -> int:
    asked: int | None = options.ranks
    if asked is not None and asked < 1:
        raise UsageError(f"argument --ranks: must be at least 1, got {asked}")
    if not ranks.under_mpiexec():
        return int(options.ranks_default if asked is None else asked)
    started = ranks.world_size()
    if asked is not None and started is not None and asked != started:
        raise UsageError(f"argument --ranks: {asked} asked for, but mpiexec started {started}")
    return started or asked or world().size
