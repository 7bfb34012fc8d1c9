"""The findings of ``syncbn doctor`` and the warnings derived from them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from syncbn._core.kernels import available, which
from syncbn._core.threads import affinity, thread_limit, usable_cores
from syncbn.cli.launch import THREAD_VARIABLES
from syncbn.cli.mpiexec import find_mpiexec, mpi_library, mpiexec_on_path
from syncbn.comm import Communicator
from syncbn.comm.launcher import PERMISSION, single_process_problem, torchrun_problem
from syncbn.experiments.latency import SIZES, allreduce_microseconds
from syncbn.experiments.machine import cpu_model, host_name, instruction_sets
from syncbn.experiments.versions import versions

SLOW_MICROSECONDS = 1000
"""Time of an allreduce on one node from which something is wrong: it takes microseconds through shared memory."""

SETTINGS = ("SYNCBN_DEBUG", "SYNCBN_KERNELS", PERMISSION, "MPI4PY_LIBMPI")
"""Environment variables of syncbn, and that of mpi4py which names the MPI library."""

_MAPS = Path("/proc/self/maps")


def diagnose(comm: Communicator) -> dict[str, Any]:
    """Return the findings as JSON values, with ``warnings`` and ``problems`` (lists of str). Collective."""
    load = round(os.getloadavg()[0], 1)  # of the minute before this measurement
    software = versions()
    mpiexec, on_path = find_mpiexec(), mpiexec_on_path()
    if mpiexec and on_path and on_path.samefile(mpiexec):
        on_path = None
    host = host_name()
    places = comm.allgather((host, affinity()))
    nodes = Counter(name for name, _ in places)
    # Open MPI and srun may bind each rank to cores of its own.
    cores = set[int]().union(*(allowed for name, allowed in places if name == host))
    found: dict[str, Any] = {
        "software": software,
        "mpiexec": _described(mpiexec),
        "other_mpiexec_on_path": _described(on_path),
        "mpi_files": loaded_mpi_files(),
        "ranks": {"total": comm.size, "per_node": dict(nodes)},
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(cores),
            "load": load,
            "instruction_sets": instruction_sets(),
        },
        "threads": {**{name: os.environ.get(name) for name in THREAD_VARIABLES}, "blas": blas_library()},
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "misspelt_settings": _misspelt(os.environ),
        "kernels": {"used": which, "builds": available(), "threads": thread_limit()},
        "allreduce": [],
    }
    problems = list(
        filter(None, [single_process_problem(comm.size, "both are listed above"), torchrun_problem(comm.size)])
    )
    if comm.size > 1:
        try:
            found["allreduce"] = [
                {"bytes": nbytes, "microseconds": round(allreduce_microseconds(comm, nbytes), 1)} for nbytes in SIZES
            ]
        except RuntimeError as error:
            problems.append(str(error))
    return {**found, "warnings": warnings_about(found), "problems": problems}


def warnings_about(found: dict[str, Any]) -> list[str]:
    """Return one line for each finding of `diagnose` that may make runs slow or wrong."""
    out = []
    software, mpiexec = found["software"], found["mpiexec"]
    cores = found["machine"]["usable_cores"]
    ranks = max(found["ranks"]["per_node"].values())
    if software["mpi4py"] is None:
        out.append("no mpi4py: only a single process works, not MPI ranks; pip install 'syncbn[mpi]'")
    elif software["mpi_library"] is None:
        chosen = found.get("settings", {}).get("MPI4PY_LIBMPI")
        out.append(
            "mpi4py finds no MPI library: "
            + (f"MPI4PY_LIBMPI={chosen} is not one, set it right; or " if chosen else "")
            + "load your cluster's MPI, or pip install 'syncbn[mpi]'"
        )
    if mpiexec is None:
        out.append("no mpiexec next to this Python or on PATH: pip install 'syncbn[mpi]'")
    elif software["mpi_library"] and _kind(mpiexec["library"]) != _kind(software["mpi_library"]):
        out.append(
            f"mpiexec belongs to {mpiexec['library']}, but mpi4py uses {software['mpi_library']}: "
            "every rank may get a COMM_WORLD of size 1"
        )
    other = found.get("other_mpiexec_on_path")
    if mpiexec and other and _kind(other["library"]) != _kind(mpiexec["library"]):
        out.append(
            f"mpiexec on PATH is {other['path']} ({other['library']}), with which every rank may get a COMM_WORLD of "
            f"size 1: use {mpiexec['path']}, or set PATH so that it is found first"
        )
    if len(found["mpi_files"]) > 1:
        out.append("two MPI libraries are loaded: " + ", ".join(found["mpi_files"]))
    if ranks > cores:
        out.append(f"{ranks} ranks share {cores} cores: they wait for each other, and timings are not meaningful")
    slow = [entry for entry in found.get("allreduce", ()) if entry["microseconds"] >= SLOW_MICROSECONDS]
    if slow and len(found["ranks"]["per_node"]) == 1:
        cause = (
            "the ranks share cores"
            if ranks > cores
            else "look for other programs, ranks that are bound to the same cores, and a container's CPU quota"
        )
        out.append(
            f"an allreduce of {slow[0]['bytes']} bytes takes {slow[0]['microseconds'] / 1000:.1f} ms on one node "
            f"instead of microseconds: {cause}"
        )
    for kind, threads in (
        ("BLAS", blas_threads(found["threads"], cores)),
        ("kernel", found["kernels"]["threads"]),
    ):
        if ranks <= cores < ranks * threads:
            out.append(
                f"{ranks} rank{'s' * (ranks > 1)} × {threads} {kind} threads > {cores} cores: "
                f"set OMP_NUM_THREADS={cores // ranks}"
            )
        if ranks > cores and threads > 1:
            out.append(f"{threads} {kind} threads per rank: set OMP_NUM_THREADS=1")
    load, all_cores = found["machine"].get("load", 0.0), found["machine"].get("cores", cores)
    free = max(0, all_cores - ranks * found["kernels"]["threads"])
    if load >= max(1, free + 0.5):
        out.append(
            f"the load average is {load:g}, and {free} of {all_cores} cores are free besides the threads of this run: "
            "threads wait for cores that other programs use; set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 "
            "(or MKL_NUM_THREADS=1)"
        )
    out += [f"{name} has no effect: is it {meant}?" for name, meant in found.get("misspelt_settings", {}).items()]
    used, builds = found["kernels"]["used"], found["kernels"]["builds"]
    if used == "reference":
        out.append("SYNCBN_KERNELS selects the reference implementation, many times slower than the compiled kernels")
    elif used != builds[0]:
        out.append(f"SYNCBN_KERNELS selects {used} kernels, slower than {builds[0]}, which this processor supports")
    return out


def _misspelt(names: Iterable[str]) -> dict[str, str]:
    """Return variables that look like one of syncbn, each with the one that may be meant."""
    ours = [name for name in SETTINGS if name.startswith("SYNCBN_")]
    others = (name for name in names if name.startswith("SYNCBN") and name not in ours)
    return {name: near[0] for name in others if (near := get_close_matches(name, ours, n=1, cutoff=0.8))}


def blas_threads(settings: dict[str, str | None], cores: int) -> int:
    """Return the number of BLAS threads: OPENBLAS_NUM_THREADS, MKL_NUM_THREADS, OMP_NUM_THREADS or all cores."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        value = (settings[name] or "").partition(",")[0]
        if value.isdigit() and int(value) > 0:
            return int(value)
    return cores


def blas_library() -> str:
    """Return the name and version of the BLAS that NumPy was built with."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(blas.get(key, "")) for key in ("name", "version")).strip() or "unknown"


def loaded_mpi_files() -> list[str]:
    """Return the files of the MPI libraries that this process has loaded."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:  # not on Linux
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines}
    return sorted(path for path in paths if re.search(r"/libmpi(ch)?\.so[.\d]*$", path))


def _described(mpiexec: Path | None) -> dict[str, str] | None:
    return {"path": str(mpiexec), "library": mpi_library(mpiexec)} if mpiexec else None


def _kind(text: str) -> str:
    return next((kind for kind in ("Open MPI", "MPICH", "Intel", "MVAPICH") if kind in text), text)
