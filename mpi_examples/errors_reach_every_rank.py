"""Errors on all ranks: if one rank passes invalid input, every rank raises an error with its rank.

    mpiexec -n 4 python -m mpi4py mpi_examples/errors_reach_every_rank.py

No rank hangs, and the communicator remains usable. Plain MPI would mix the messages or deadlock.
"""

import numpy as np

from syncbn import MPIComm, SyncBatchNorm, SyncMismatchError

world = MPIComm()
layer = SyncBatchNorm(16, comm=world)
culprit = world.size - 1

channels = 12 if world.rank == culprit else 16
try:
    layer(np.ones((2, channels), np.float32))
    raised = "nothing"
except (ValueError, SyncMismatchError) as error:
    raised = f"{type(error).__name__}: {error}"

reports = world.allgather(raised)
if world.rank == 0:
    for rank, text in enumerate(reports):
        print(f"rank {rank} raised {text}\n")

x = np.random.default_rng(world.rank).normal(size=(2, 16)).astype(np.float32)
y, _ = layer(x)
if world.rank == 0:
    print(f"the next call works: {y.shape} from statistics of {world.size} ranks")
raise SystemExit(not all(f"rank {culprit} had bad input" in r or "must have 16 channels" in r for r in reports))
