"""The tutorial's network: Dense(64, relu), batch normalization, Dense(10, softmax) on 784 inputs.

    mpiexec -n 4 python -m mpi4py mpi_examples/tutorial_network.py

The network has as many lines as in Keras; the softmax is part of the loss. It is trained for one epoch on the packaged
images, 8 per rank, with the statistics of all ranks.
"""

import numpy as np

from syncbn import MPIComm, SyncBatchNorm, data, nn
from syncbn.train import Trainer

world = MPIComm()
rng = np.random.default_rng(0)
model = nn.Sequential(
    nn.Dense(784, 64, rng=rng),
    nn.ReLU(),
    SyncBatchNorm(64, comm=world),
    nn.Dense(64, 10, init=nn.glorot_uniform, rng=rng),
)
if world.rank == 0:
    print(nn.summary(model, (784,)))

images = data.prepare(data.load(), flat=True)
trainer = Trainer(model, nn.SGD(model.parameters(), lr=0.05, momentum=0.9), world, batch_per_rank=8)
history = trainer.fit(images.x_train, images.y_train, epochs=1, validation_data=(images.x_test, images.y_test))
if world.rank == 0:
    print(f"test accuracy after 1 epoch on {world.size} ranks: {100 * (1 - history[-1].test_error):.1f} %")
raise SystemExit(not history[-1].test_error < 0.3)
