"""Statistics over groups of ranks, if fewer samples than those of all ranks suffice.

    mpiexec -n 4 python -m mpi4py mpi_examples/groups_of_ranks.py

Ranks 0 and 1 share statistics, and ranks 2 and 3 share others. Messages stay within a group, for example on one
node, and a group of 2 ranks with 4 samples each normalizes with the statistics of 8 samples.
"""

import numpy as np

from syncbn import MPIComm, SyncBatchNorm

world = MPIComm()
group = world.split(2)
layer = SyncBatchNorm(3, momentum=1.0, comm=group)

x = np.random.default_rng(world.rank).normal(world.rank, 1, (4, 3)).astype(np.float32)
y, _ = layer(x)

means = world.allgather((world.rank // 2, layer.running_mean[0].item()))
if world.rank == 0:
    for number in sorted({number for number, _ in means}):
        values = [mean for other, mean in means if other == number]
        members = ", ".join(str(r) for r, (other, _) in enumerate(means) if other == number)
        print(
            f"group {number} (ranks {members}): mean of channel 0 on each rank {', '.join(f'{m:+.4f}' for m in values)}"
        )
agree = all(a == b for g, a in means for h, b in means if g == h)
differ = len({mean for _, mean in means}) == len({number for number, _ in means})
raise SystemExit(not (agree and differ))
