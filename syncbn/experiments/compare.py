"""One network, several normalizers, batches and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from syncbn.comm import Communicator
from syncbn.data import Dataset, prepare
from syncbn.experiments.config import CompareConfig
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run
from syncbn.experiments.training import train

POOL = {"mlp": 1, "resnet": 4}
"""Squares of pixels that are averaged: the residual network sees maps of 7×7, small enough for BN to suffer."""


def compare(
    config: CompareConfig,
    dataset: Dataset,
    comm: Communicator,
    observer: Observer | None = None,
    keep: Callable[[Run], object] | None = None,
) -> list[Run]:
    """Train with every normalizer, batch and seed.

    Collective. The outermost loop is over seeds, so that an interrupted comparison has a bit of everything.

    Parameters
    ----------
    config : CompareConfig
    dataset : Dataset
        What is trained and tested on, the same on every rank.
    comm : Communicator
    observer : Observer, optional
        Is told how it goes on.
    keep : callable, optional
        Gets every run when it is complete.

    Raises
    ------
    ValueError
        The images do not fit the network, or are too few.
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


def planned(config: CompareConfig) -> Iterator[Run]:
    """Yield the runs that are still to be done, in their order."""
    for seed in range(config.seeds):
        for batch in config.batches:
            for norm in config.norms:
                yield Run(norm, batch, seed)
