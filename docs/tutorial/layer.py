import numpy as np

from syncbn import MPIComm, SyncBatchNorm

world = MPIComm()
layer = SyncBatchNorm(3, comm=world)
rng = np.random.default_rng(world.rank)

for _ in range(100):
    x = rng.normal(5, 2, (2, 3)).astype(np.float32)  # 2 samples of this rank
    y, backward = layer(x)  # statistics of 8 samples
    dx = backward(np.ones_like(y))  # gradients, through the statistics of all ranks

if world.rank == 0:
    print("running mean    ", layer.running_mean.round(2))
    print("running variance", layer.running_var.round(2))
    layer.eval()  # from here on: the running statistics, and no messages
    y, _ = layer(x)  # so one rank alone may call it
    print("evaluated on rank 0:", y.shape)
