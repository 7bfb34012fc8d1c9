"""Ranks with different numbers of samples, and with none.

    mpiexec -n 4 python -m mpi4py mpi_examples/uneven_and_empty_batches.py

Rank r has 3·r samples, so rank 0 has none but participates. All values have equal weights, whereas the mean of the
means of the ranks, which other systems compute, differs. Outputs and input gradients have the bits of one process with
all samples.
"""

import numpy as np
from mpi4py import MPI

from syncbn import functional as F

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
sizes = [3 * r for r in range(size)] if size > 1 else [3]
start = sum(sizes[:rank])
mine = slice(start, start + sizes[rank])

rng = np.random.default_rng(0)
x = rng.normal(0, 1, (sum(sizes), 4)) + np.repeat(np.arange(size), sizes)[:, None]  # rank r's mean is r
dy = rng.normal(0, 1, x.shape)

whole_y, whole, whole_backward = F.batch_norm(x)
y, moments, backward = F.batch_norm(x[mine], comm=comm)
dx, _, _ = backward(dy[mine])

same = np.array_equal(y, whole_y[mine]) and np.array_equal(dx, whole_backward(dy)[0][mine])
rank_means = [x[sum(sizes[:r]) : sum(sizes[: r + 1]), 0].mean() for r in range(size) if sizes[r]]
lines = comm.allgather(f"rank {rank}: {sizes[rank]} samples, y and dx have the bits of one process: {same}")
if rank == 0:
    print(*lines, sep="\n")
    print(
        f"mean of channel 0 over {moments.count} samples: {moments.mean[0]:.4f}; "
        f"mean of the means of the ranks, with wrong weights: {np.mean(rank_means):.4f}"
    )
raise SystemExit(not (same and np.isclose(moments.mean[0], x[:, 0].mean())))
