"""A training that test_killed.py interrupts: python interrupted_training.py DIRECTORY CHECKPOINT RANKS SEED."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from syncbn import BatchNorm, SyncBatchNorm
from syncbn.comm import SerialComm, world
from syncbn.nn import SGD, CosineSchedule, Dense, ReLU, Sequential
from syncbn.train import Trainer

EPOCHS = 8

directory, checkpoint, ranks, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
comm = world() if ranks else SerialComm()
rng = np.random.default_rng(3)
x, y = rng.standard_normal((240, 6)), rng.integers(0, 3, 240)
# Wide, so that a checkpoint takes about as long as a step. Running statistics of BatchNorm differ between ranks.
model = Sequential(
    Dense(6, 1000, rng=rng, dtype=np.float64),
    SyncBatchNorm(1000, comm=comm),
    ReLU(),
    Dense(1000, 3, rng=rng, dtype=np.float64),
    BatchNorm(3),
)
optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
schedule = CosineSchedule(0.05, total_steps=240)
trainer = Trainer(model, optimizer, comm, schedule=schedule, seed=seed, batch_per_rank=8 // comm.size, check_every=1)
(directory / f"pid-{comm.rank}.draft").write_text(str(os.getpid()))
(directory / f"pid-{comm.rank}.draft").replace(directory / f"pid-{comm.rank}")
trainer.resume(directory / checkpoint, missing_ok=True)
trainer.fit(x, y, EPOCHS, validation_data=(x, y), checkpoint=directory / checkpoint, checkpoint_steps=1)
