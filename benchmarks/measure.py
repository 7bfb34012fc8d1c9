"""Checks and times the cases of some sections in this process and prints each as a line of JSON.

    python benchmarks/measure.py --rounds 5 batch_norm inference
    mpiexec -n 2 python -m mpi4py benchmarks/measure.py --rounds 5 --mpi synchronized

benchmarks/bench.py starts it with environment variables that limit every library to one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module

from case import DisagreementError, check
from sections import SECTIONS
from timing import ThreadsError, interleave

from syncbn.comm import SERIAL, MPIComm


def main() -> int:
    """Run the sections and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--mpi", action="store_true", help="measure on all ranks of MPI")
    options = parser.parse_args()
    comm = MPIComm() if options.mpi else SERIAL
    for section in options.sections:
        for case in import_module(f"sections.{section}").cases(comm):
            try:
                check(case)
                times = interleave(case.candidates, options.rounds, comm)
            except (DisagreementError, ThreadsError) as error:
                if comm.size > 1:
                    raise  # python -m mpi4py ends all ranks
                print(f"{section}: {error}", file=sys.stderr)
                return 1
            if comm.rank == 0:
                line = {"section": section, "ranks": comm.size, "group": case.group, "name": case.name}
                line |= {"bytes": case.size, "weight": case.weight, "point": case.point, "seconds": times}
                print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
