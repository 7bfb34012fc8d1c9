"""Versions of the software behind a result."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from syncbn import __version__
from syncbn._core.threads import usable_cores
from syncbn.comm.mpi_import import import_mpi
from syncbn.experiments.machine import cpu_model


def versions() -> dict[str, str | int | None]:
    """Return the versions of the software and the processor; None for software that is not installed.

    Initializes MPI if mpi4py is installed.
    """
    return {
        "syncbn": __version__,
        "python": platform.python_version(),
        "numpy": package_version("numpy"),
        "mpi4py": package_version("mpi4py"),
        "mpi_library": mpi_library(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
    }


def package_version(name: str) -> str | None:
    """Return the version of an installed package, otherwise None."""
    if find_spec(name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def mpi_library() -> str | None:
    """Return the name and version of the MPI library, None without mpi4py or MPI."""
    try:
        mpi = import_mpi()
    except ImportError:
        return None
    text: str = mpi.Get_library_version()
    first_line = " ".join(text.replace("\0", "").splitlines()[0].split())
    return first_line.partition(",")[0].replace(" Version:", "")  # MPICH Version: 5.0.2; Open MPI v5.0.8, package: …
