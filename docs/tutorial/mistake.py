import numpy as np

from syncbn import MPIComm, SyncBatchNorm

world = MPIComm()
layer = SyncBatchNorm(3, comm=world)

channels = 4 if world.rank == 2 else 3  # a mistake on rank 2
try:
    layer(np.ones((2, channels), np.float32))
except Exception as error:
    raised = f"rank {world.rank}: {type(error).__name__}: {error}"
lines = world.allgather(raised)
if world.rank == 0:
    print(*lines, sep="\n")
