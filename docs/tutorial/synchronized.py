import numpy as np

from syncbn import MPIComm
from syncbn import functional as F

world = MPIComm()
images = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
mine = images[world.rank :: world.size]

y, moments, backward = F.batch_norm(mine, comm=world)  # the only change
lines = world.allgather(f"rank {world.rank}: {moments.count} samples, means {moments.mean.round(3)}")
if world.rank == 0:
    print(*lines, sep="\n")

whole, _, _ = F.batch_norm(images)  # one process, all samples
same = np.array_equal(y, whole[world.rank :: world.size])
if all(world.allgather(same)) and world.rank == 0:
    print("every rank has the bits of one process")
