"""A small classification problem and small networks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from own_loop import Loop, N

from syncbn import BatchNorm, LayerNorm, SyncBatchNorm
from syncbn.comm import Communicator, SerialComm
from syncbn.nn import SGD, Adam, Dense, ReLU, Sequential
from syncbn.train import Trainer


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """55 samples of 6 features and 3 classes: four batches of 12 and one of 7."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((55, 6)) * 2 + 1
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


def network(norm: str, comm: Communicator, seed: int = 0) -> Sequential:
    norms = {
        "none": lambda: None,
        "bn": lambda: BatchNorm(8, dtype=np.float64),
        "syncbn": lambda: SyncBatchNorm(8, comm=comm, dtype=np.float64),
        "ln": lambda: LayerNorm(8, dtype=np.float64),
    }
    rng = np.random.default_rng(seed)
    # Batch normalization subtracts a bias again: its gradient would be mere rounding.
    first = Dense(6, 8, bias=norm in ("none", "ln"), rng=rng, dtype=np.float64)
    layers = [first, norms[norm](), ReLU(), Dense(8, 3, rng=rng, dtype=np.float64)]
    return Sequential(*filter(None, layers))


OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda parameters: Adam(parameters, 0.01),
}


@pytest.fixture
def build() -> Callable[..., Trainer]:
    """Return a trainer of a new network; the global batch is 12 on every number of ranks up to 4."""

    def build(
        norm: str = "syncbn", comm: Communicator | None = None, optimizer: str = "sgd", seed: int = 0, **options: object
    ) -> Trainer:
        comm = SerialComm() if comm is None else comm
        model = network(norm, comm, seed=seed)
        options = {"batch_per_rank": 12 // comm.size, "check_every": 2, **options}
        return Trainer(model, OPTIMIZERS[optimizer](model.parameters()), comm, **options)

    return build


@pytest.fixture
def state() -> Callable[[Trainer], dict[str, object]]:
    """Return all that an interruption must not change, with every bit: bytes, and floats as they are."""

    def state(trainer: Trainer) -> dict[str, object]:
        arrays = {f"model {k}": v for k, v in trainer.model.state_dict().items()}
        arrays |= {f"optimizer {k}": v for k, v in trainer.optimizer.state_dict().items()}
        position = {k: v for k, v in asdict(trainer.position).items() if k != "seconds"}
        history = [{k: v for k, v in asdict(record).items() if k != "seconds"} for record in trainer.history]
        return {**{k: v.tobytes() for k, v in arrays.items()}, "position": position, "history": history}

    return state


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    """21 samples of 6 features and 3 classes, for a loop of the user's own."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, 6))
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


@pytest.fixture
def loop(comm: Communicator, problem: tuple[np.ndarray, np.ndarray]) -> Loop:
    """Return such a loop on the ranks of the test."""
    return Loop(comm, problem)
