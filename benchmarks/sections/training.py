"""A training step of the networks of `syncbn compare` with Batch Normalization, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import torch
from baselines import torch_networks
from case import Candidate, Case, DisagreementError

from syncbn.comm import SERIAL, Communicator
from syncbn.data import Inputs, load, prepare
from syncbn.experiments.compare import POOL
from syncbn.experiments.config import CompareConfig, scaled
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import Network
from syncbn.nn import SGD, Sequential
from syncbn.train.order import DataOrder
from syncbn.train.step import TrainingStep

NETWORKS: tuple[Network, ...] = ("mlp", "resnet")
CONFIG = CompareConfig()
TOLERANCE = 1e-3
"""Tolerance of logits and of the changes by a step, which rounding in many layers affects."""


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield both networks with the default batch sizes of the command."""
    dataset = load(CONFIG.data)
    for network in NETWORKS:
        inputs = prepare(dataset, pool=POOL[network])
        for batch in CONFIG.batches:
            yield _case(network, batch, inputs, len(dataset.class_names))


def _case(network: Network, batch: int, inputs: Inputs, classes: int) -> Case:
    """Return the case, after a check that both networks agree on logits.

    Raises
    ------
    DisagreementError
        The networks differ in parameters or logits.
    """
    own = build_network(network, "bn", 0, image_shape=inputs.x_train.shape[1:], classes=classes, comm=SERIAL)
    image_size, channels = inputs.x_train[0].size, inputs.x_train.shape[1]
    other = (
        torch_networks.build_mlp(image_size, classes)
        if network == "mlp"
        else torch_networks.build_resnet(channels, classes)
    )
    _copy_weights(own, other)
    batches = list(DataOrder(len(inputs.x_train), batch, seed=0, drop_last=True).batches(0))
    _check_forward(own, other, inputs.x_train[batches[0]], f"{network}, batch {batch}")
    name, lr = f"{network}, batch {batch}", scaled(CONFIG.lr[0], batch)
    candidates = {
        "syncbn": _own_step(own, inputs, batches, lr),
        "torch": _torch_step(other, inputs, batches, lr),
    }
    return Case(f"training, {network}", name, candidates, inputs.x_train[0].nbytes * batch, tolerance=TOLERANCE)


def _own_step(model: Sequential, inputs: Inputs, batches: list[np.ndarray], lr: float) -> Candidate:
    step = TrainingStep(model, SGD(model.parameters(), lr, CONFIG.momentum), SERIAL)
    order = cycle(batches)
    x, labels = inputs.x_train, inputs.y_train

    def run() -> None:
        step.run(x, labels, next(order), lambda: None)

    before = _flat([parameter.data for parameter in model.parameters()])
    return Candidate(run, lambda _: (_flat([parameter.data for parameter in model.parameters()]) - before,))


def _torch_step(model: torch.nn.Module, inputs: Inputs, batches: list[np.ndarray], lr: float) -> Candidate:
    optimizer = torch.optim.SGD(model.parameters(), lr, CONFIG.momentum)
    order = cycle(map(torch.from_numpy, batches))
    x, labels = torch.from_numpy(inputs.x_train), torch.from_numpy(inputs.y_train.astype(np.int64))
    cross_entropy = torch.nn.functional.cross_entropy

    def run() -> float:
        batch = next(order)
        optimizer.zero_grad()
        loss = cross_entropy(model(x[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        return loss.item()

    before = _flat([parameter.detach().numpy() for parameter in model.parameters()])
    return Candidate(run, lambda _: (_flat([p.detach().numpy() for p in model.parameters()]) - before,))


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    """Return all values in one array, because the gradient of a bias before BN is only rounding and has no scale."""
    return np.concatenate([array.ravel() for array in arrays])


def _copy_weights(own: Sequential, other: torch.nn.Module) -> None:
    """Copy the weights by name; names and shapes must be equal."""
    state = {name: torch.tensor(np.asarray(array)) for name, array in own.state_dict().items()}
    other.load_state_dict(state)
    own_size = sum(parameter.data.size for parameter in own.parameters())
    other_size = sum(parameter.numel() for parameter in other.parameters())
    if own_size != other_size:
        raise DisagreementError(f"{own_size} parameters in the network of syncbn, {other_size} in that of PyTorch")


def _check_forward(own: Sequential, other: torch.nn.Module, x: np.ndarray, name: str) -> None:
    logits, _ = own(x)
    expected = other(torch.from_numpy(x)).detach().numpy()
    difference, largest = np.abs(logits - expected).max(), np.abs(expected).max()
    if not difference <= TOLERANCE * largest:
        raise DisagreementError(f"{name}: logits differ by {difference:.3g}, the largest is {largest:.3g}")
