"""The mpiexec of this machine and the command that starts ranks with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from syncbn.cli.errors import CommandError

INSTALL = "pip install 'syncbn[mpi]' (without the mpich wheel where the cluster has its own MPI)"
"""Advice for a process that finds no MPI."""


def mpiexec_command(ranks: int) -> tuple[list[str], dict[str, str]]:
    """Return the first words of the command for this number of ranks and the environment variables that it needs.

    Raises
    ------
    CommandError
        There is no mpiexec.
    """
    mpiexec = find_mpiexec()
    if mpiexec is None:
        raise CommandError(f"{ranks} ranks need mpiexec, which is neither next to this Python nor on PATH: {INSTALL}")
    command = [str(mpiexec), "-n", str(ranks)]
    if mpi_library(mpiexec) != "Open MPI":
        return command, {}
    # By default Open MPI refuses more ranks than cores, binds each rank to one core, and refuses to run as root.
    command += ["--oversubscribe", "--bind-to", "none"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return command, root if os.geteuid() == 0 else {}


def find_mpiexec() -> Path | None:
    """Return the mpiexec next to this Python (it belongs to the MPI wheel that mpi4py uses), else that on PATH."""
    neighbour = Path(sys.executable).parent / "mpiexec"
    return neighbour if neighbour.exists() else mpiexec_on_path()


def mpiexec_on_path() -> Path | None:
    """Return the mpiexec that a shell finds."""
    found = shutil.which("mpiexec")
    return Path(found) if found else None


def mpi_library(mpiexec: Path) -> str:
    """Return "MPICH", "Open MPI", or otherwise the first line of ``mpiexec --version``, or "unknown"."""
    try:
        version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if "Open MPI" in version or "OpenRTE" in version or "PRRTE" in version:
        return "Open MPI"
    if "HYDRA" in version or "MPICH" in version:
        return "MPICH"
    return next(iter(version.splitlines()), "unknown")
