"""A training loop of your own, with the calls that make it data-parallel.

    mpiexec -n 4 python -m mpi4py mpi_examples/own_loop.py

1. `broadcast_parameters` copies the initial weights of rank 0 to all ranks.
2. Each rank takes its own share of the batch of all ranks.
3. It divides its loss by the size of that batch, the *global* one, so the sum over ranks is the mean.
4. `sum_gradients` adds the gradients and the loss over ranks, in one message.

If one of them is forgotten, an error names it. Rank 0 alone may evaluate and save; after loading on rank 0,
`broadcast_parameters` copies the values again. On one rank this is ordinary training.
"""

import tempfile
from pathlib import Path

import numpy as np

from syncbn import MPIComm, SerialComm, SyncBatchNorm, data, nn, train

world = MPIComm()
images = data.prepare(data.load(), flat=True)


def network():
    """Return the network with random weights, which differ between ranks."""
    return nn.Sequential(
        nn.Dense(784, 64, bias=False), SyncBatchNorm(64, comm=world), nn.ReLU(), nn.Dropout(0.1), nn.Dense(64, 10)
    )


model = network()
optimizer = nn.SGD(model.parameters(), lr=0.05, momentum=0.9)
train.broadcast_parameters(model, world)  # 1

order = train.DataOrder(len(images.x_train), global_batch=8 * world.size, seed=0)
for epoch in range(2):
    losses = []
    for batch in order.batches(epoch):  # the same samples on all ranks
        own = batch[train.shard(len(batch), world.rank, world.size)]  # 2
        logits, backward = model(images.x_train[own])
        loss, dlogits = nn.softmax_cross_entropy(logits, images.y_train[own], len(batch))  # 3
        backward(dlogits)
        losses.append(train.sum_gradients(model, world, loss))  # 4
        optimizer.step()
        optimizer.zero_grad()
    if world.rank == 0:
        test = train.evaluate(model, images.x_test, images.y_test, SerialComm())
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, test loss {test.loss:.3f}, "
            f"test accuracy {100 * test.accuracy:.1f} %",
            flush=True,
        )

loaded = network()
if world.rank == 0:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "model.npz", **model.state_dict())
        loaded.load_state_dict(np.load(Path(folder) / "model.npz"))
train.broadcast_parameters(loaded, world)  # also the loaded values

errors = [
    train.evaluate(m, images.x_test, images.y_test, world).error for m in (model, loaded)
]  # on all ranks together
raise SystemExit(not errors[0] == errors[1] < 0.25)
