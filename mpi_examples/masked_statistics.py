"""Sequences of different lengths, whose padding a mask excludes from the statistics of all ranks.

    mpiexec -n 4 python -m mpi4py mpi_examples/masked_statistics.py

x has the shape (samples, channels, time) and is padded with zeros. With a mask, the statistics are those of the real
values of all ranks. Without it, the padding moves the mean and the variance towards 0.
"""

import numpy as np

from syncbn import MPIComm
from syncbn import functional as F

world = MPIComm()
rng = np.random.default_rng(0)
lengths = rng.integers(3, 20, size=2 * world.size)  # of the sequences of all ranks
sequences = [rng.normal(10, 1, (3, n)) for n in lengths]

x = np.zeros((2, 3, 20))
mask = np.zeros((2, 20), bool)
for i, sequence in enumerate(sequences[2 * world.rank : 2 * world.rank + 2]):
    x[i, :, : sequence.shape[1]] = sequence
    mask[i, : sequence.shape[1]] = True

_, masked, _ = F.batch_norm(x, mask=mask, comm=world)
_, padded, _ = F.batch_norm(x, comm=world)
real = np.concatenate(sequences, axis=1)
if world.rank == 0:
    for name, count, mean, var in (
        ("real values", real.shape[1], real[0].mean(), real[0].var()),
        ("with mask", masked.count, masked.mean[0], masked.var[0]),
        ("without mask", padded.count, padded.mean[0], padded.var[0]),
    ):
        print(f"{name:13s} count {count:4d}  mean {mean:8.4f}  variance {var:8.4f}")
correct = masked.count == real.shape[1] and np.allclose(masked.var, real.var(axis=1))
raise SystemExit(not (correct and not np.allclose(padded.var, real.var(axis=1))))
