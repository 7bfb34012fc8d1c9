"""Batch normalization with the statistics of all ranks, in 15 lines.

    mpiexec -n 4 python -m mpi4py mpi_examples/synchronized_statistics.py

Each rank has two samples. Normalized with the statistics of all ranks, they have the same bits as in one process with
the whole batch; normalized with the statistics of the rank, they differ.
"""

import numpy as np
from mpi4py import MPI

from syncbn import functional as F

rank, size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
whole = np.random.default_rng(0).normal(5, 2, (2 * size, 3, 4, 4)).astype(np.float32)  # the same on all ranks
mine = slice(2 * rank, 2 * rank + 2)

expected, _, _ = F.batch_norm(whole)  # one process, all samples
synchronized, moments, _ = F.batch_norm(whole[mine], comm=MPI.COMM_WORLD)
local, _, _ = F.batch_norm(whole[mine])

exact = np.array_equal(synchronized, expected[mine])
lines = MPI.COMM_WORLD.allgather(
    f"rank {rank}: statistics of {moments.count} values per channel; "
    f"largest difference from one process: synchronized {np.abs(synchronized - expected[mine]).max():g}"
    f"{' (the same bits)' if exact else ''}, local {np.abs(local - expected[mine]).max():.2g}"
)
if rank == 0:
    print(*lines, sep="\n")
raise SystemExit(not exact)
