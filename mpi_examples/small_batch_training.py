"""Training with two samples per rank, where local batch normalization fails and synchronized works.

    mpiexec -n 4 python -m mpi4py mpi_examples/small_batch_training.py

Both networks have equal initial weights and are trained on 2,000 real images in equal order. With two samples, the
statistics of one rank are noisy and differ from the running statistics that evaluation uses. On one rank both layers
are equal.
"""

import numpy as np

from syncbn import BatchNorm, MPIComm, SyncBatchNorm, data, nn
from syncbn.train import Trainer

world = MPIComm()
images = data.prepare(data.load(), flat=True)
errors = {}
for name, norm in {"BatchNorm": BatchNorm, "SyncBatchNorm": lambda c: SyncBatchNorm(c, comm=world)}.items():
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Dense(784, 64, rng=rng), norm(64), nn.ReLU(),
        nn.Dense(64, 64, rng=rng), norm(64), nn.ReLU(),
        nn.Dense(64, 10, rng=rng),
    )  # fmt: skip
    optimizer = nn.SGD(model.parameters(), lr=0.1 * 2 * world.size / 32, momentum=0.9)
    trainer = Trainer(model, optimizer, world, batch_per_rank=2, drop_last=True)
    trainer.fit(images.x_train[:2000], images.y_train[:2000], epochs=1)
    errors[name] = trainer.evaluate(images.x_test, images.y_test).error
    if world.rank == 0:
        print(f"{name:13s} test error {100 * errors[name]:.1f} %", flush=True)
better = errors["SyncBatchNorm"] < errors["BatchNorm"] - 0.1
raise SystemExit(not (better or world.size == 1))
