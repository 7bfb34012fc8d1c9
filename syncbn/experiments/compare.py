"""A comparison: one network trained with several normalizers, batch sizes and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from syncbn.comm import SERIAL, Communicator
from syncbn.data import Dataset, prepare
from syncbn.experiments.config import CompareConfig
from syncbn.experiments.networks import build_network
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run
from syncbn.experiments.training import image_shape, train

POOL = {"mlp": 1, "resnet": 4}
"""Side of the pixel squares that are averaged. Images of 7×7 keep the statistics of local BN noisy in the ResNet."""


def compare(
    config: CompareConfig,
    dataset: Dataset,
    comm: Communicator,
    observer: Observer | None = None,
    keep: Callable[[Run], object] | None = None,
) -> list[Run]:
    """Train with every normalizer, batch size, learning rate and seed.

    Collective. The outermost loop is over seeds, so that an interrupted comparison covers all normalizers.

    Parameters
    ----------
    config : CompareConfig
    dataset : Dataset
        Training and test data, equal on every rank.
    comm : Communicator
    observer : Observer, optional
        Receives the progress.
    keep : callable, optional
        Called with every complete run.

    Raises
    ------
    ValueError
        The images do not fit the network, or there are too few of them.
    """
    observer = observer or Observer()
    inputs = prepare(dataset, pool=POOL[config.network])
    config.check_batches(comm.size, len(inputs.x_train))
    classes = len(dataset.class_names)
    plan = list(planned(config))
    runs = []
    observer.begin(len(plan), sum(config.steps(run.batch * comm.size, len(inputs.x_train)) for run in plan))
    try:
        for run in plan:
            observer.begin_run(run)
            train(config, run, inputs, classes, comm, observer)
            runs.append(run)
            if keep is not None:
                keep(run)
            observer.end_run(run)
    finally:
        observer.end()
    return runs


def check_images(config: CompareConfig, dataset: Dataset) -> None:
    """Raise ValueError unless every network of the comparison takes the images. Not collective."""
    height, width = dataset.x_train.shape[-2:]
    pool = POOL[config.network]
    if height % pool or width % pool:
        raise ValueError(
            f"network {config.network!r} averages squares of {pool} x {pool} pixels, so it can't take images of "
            f"{height} x {width} pixels"
        )
    try:
        inputs, least = prepare(dataset, pool=pool), min(config.batches)
        for norm in config.norms:
            model = build_network(
                config.network,
                norm,
                0,
                image_shape=image_shape(inputs),
                classes=len(dataset.class_names),
                comm=SERIAL,
                reduction=config.reduction,
            )
            samples = max(least, 2) if norm in ("syncbn", "ghost") else least  # SyncBN has those of other ranks too
            model(inputs.x_train[:samples])
    except ValueError as error:
        raise ValueError(
            f"network {config.network!r} can't take images of {height} x {width} pixels: {error}"
        ) from error


def planned(config: CompareConfig) -> Iterator[Run]:
    """Yield all runs, not yet done, in the order of training."""
    for seed, lr, batch, norm in product(range(config.seeds), config.lr, config.batches, config.norms):
        yield Run(norm, batch, seed, lr)
