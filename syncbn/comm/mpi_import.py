"""The import of mpi4py, which initializes MPI; it takes place when the first MPI communicator is made."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from syncbn._core.checks import shown
from syncbn.pitfalls import see

_MISSING = (
    "synchronization over MPI needs mpi4py and an MPI library{}: pip install 'syncbn[mpi]' installs both; where the "
    "cluster has its own MPI, load its module and install mpi4py only. For one process alone, pass "
    "comm=syncbn.SerialComm() or use BatchNorm" + see("mpi-is-missing")
)


def import_mpi() -> ModuleType:
    """Import ``mpi4py.MPI``, which initializes MPI, and return it.

    Raises
    ------
    ImportError
        mpi4py or the MPI library is missing.
    RuntimeError
        MPI is finalized, or mpi4py was configured not to initialize it.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the wheel of mpi4py loads the MPI library here
        raise ImportError(_MISSING.format(f" ({_problem(error)})")) from error
    if not MPI.Is_initialized() or MPI.Is_finalized():
        state = "is finalized already" if MPI.Is_initialized() else "is not initialized: call MPI.Init() first"
        raise RuntimeError(f"MPI {state}, so there can be no communicator{see('mpi-is-missing')}")
    return MPI


def _problem(error: Exception) -> str:
    """Return why mpi4py could not be imported, in one line, with the variable that names the MPI library."""
    chosen = os.environ.get("MPI4PY_LIBMPI")
    return "; ".join(str(error).splitlines()) + (f"; MPI4PY_LIBMPI={chosen}" if chosen else "")


def check_intracommunicator(comm: Any, expected: str) -> None:
    """Raise unless ``comm`` is an mpi4py intracommunicator that this process belongs to. Not collective."""
    of_mpi4py = any(base.__module__.startswith("mpi4py") for base in type(comm).__mro__)
    mpi: Any = import_mpi() if of_mpi4py else None  # another object is refused without mpi4py too
    if of_mpi4py and isinstance(comm, mpi.Comm) and comm == mpi.COMM_NULL:
        raise ValueError(
            "comm is MPI.COMM_NULL: this process does not belong to the group, or the group was freed. "
            f"Call only on the ranks of the group{see('communicators-that-cannot-be-used')}"
        )
    if not (of_mpi4py and isinstance(comm, mpi.Intracomm)):
        raise TypeError(f"comm must be {expected}, got {shown(comm)}{see('communicators-that-cannot-be-used')}")
