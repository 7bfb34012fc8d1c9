"""``syncbn doctor``: reports MPI, cores, threads and kernels, and warns of problems."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from syncbn.cli import ranks
from syncbn.cli.command import Command, mpi_ranks
from syncbn.cli.diagnosis import diagnose
from syncbn.cli.output import check_json, show
from syncbn.cli.parser import add_json, add_ranks
from syncbn.comm import Communicator, SerialComm
from syncbn.comm.launcher import single_process_problem

DESCRIPTION = "Report MPI, cores, threads and kernels and the time of an allreduce, and warn of problems."

EPILOG = """\
exit codes:
  0  usable, possibly with warnings    1  broken: lines that begin with PROBLEM

example:
  syncbn doctor --ranks 4
"""


def add_parser(subparsers: Any) -> None:
    """Add this command to the subcommands."""
    parser = subparsers.add_parser(
        "doctor",
        help="report MPI, cores, threads and kernels, and warn",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_ranks(parser, default=1)
    add_json(parser)
    parser.set_defaults(command=DoctorCommand, prog=parser.prog)


class DoctorCommand(Command):
    """The doctor command: prints the diagnosis."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        check_json(options.json)

    def start(self, arguments: Sequence[str]) -> int:
        """Do the work, also in a process that has no MPI ranks because of a wrong launcher, which is diagnosed."""
        if single_process_problem(mpi_ranks() if ranks.under_mpiexec() else 1):
            return self.run(SerialComm())
        return super().start(arguments)

    def run(self, comm: Communicator) -> int:
        """Print the findings on rank 0; return exit code 1 if there are problems. Collective."""
        found = diagnose(comm)
        if comm.rank == 0 and (comm.size > 1 or ranks.rank() == 0):
            show(as_text(found), found, self.options.json)
        return 1 if found["problems"] else 0


def as_text(found: dict[str, Any]) -> str:
    """Return the findings as lines of text, followed by the warnings and problems."""
    software, machine, threads = found["software"], found["machine"], found["threads"]
    mpiexecs, kernels = filter(None, (found["mpiexec"], found["other_mpiexec_on_path"])), found["kernels"]
    per_node = ", ".join(f"{count} on {node}" for node, count in found["ranks"]["per_node"].items())
    set_threads = [f"{name}={value}" for name, value in threads.items() if name != "blas" and value]
    latencies = [f"{_bytes(entry['bytes'])} {entry['microseconds']:.1f} µs" for entry in found["allreduce"]]
    rows = {
        "syncbn": f"{software['syncbn']}, Python {software['python']}, NumPy {software['numpy']}",
        "MPI": f"{software['mpi_library'] or 'none'}, mpi4py {software['mpi4py'] or 'missing'}",
        "mpiexec": ", on PATH ".join(f"{each['path']} ({each['library']})" for each in mpiexecs) or "none",
        "ranks": per_node,
        "cores": f"{machine['usable_cores']} usable of {machine['cores']}, {machine['cpu']}",
        "vectors": ", ".join(machine["instruction_sets"]) or "unknown",
        "threads": f"{' '.join(set_threads) or 'no variables set'}; BLAS {threads['blas']}",
        "settings": " ".join(f"{name}={value}" for name, value in found["settings"].items()) or "no variables set",
        "kernels": f"{kernels['used']} (of {', '.join(kernels['builds'])}), up to {kernels['threads']} threads",
        "allreduce": ", ".join(latencies) or "not measured on a single rank (try --ranks 2)",
    }
    lines = [f"{name:<11}{value}" for name, value in rows.items()]
    lines += [f"warning    {text}" for text in found["warnings"]]
    lines += [f"PROBLEM    {text}" for text in found["problems"]]
    if not found["warnings"] and not found["problems"]:
        lines.append("no problems found")
    return "\n".join(lines)


def _bytes(count: int) -> str:
    return f"{count} B" if count < 1024 else f"{count // 1024} KiB"
