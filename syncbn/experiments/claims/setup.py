"""The setup of a run of the claims, and what a piece of work receives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from syncbn.comm import Communicator
from syncbn.data import Dataset, Inputs, prepare

Effort = Literal["smoke", "quick", "full"]
EFFORTS: tuple[Effort, ...] = ("smoke", "quick", "full")

SAMPLES: dict[Effort, tuple[int, int, int]] = {
    "smoke": (256, 64, 100),
    "quick": (3000, 1000, 1000),
    "full": (9000, 1000, 2000),
}
"""Images for training, for the search (of the same training set, but other ones), and for the test."""

POOL = 4
"""Largest side of the pixel squares that a claim averages."""

SEEDS: dict[Effort, tuple[int, ...]] = {"smoke": (0, 1), "quick": (0, 1, 2), "full": (0, 1, 2, 3, 4)}
"""Seeds of each effort, fixed before any result was seen."""

SEARCH_SEED = 1_000_000
"""Seed of the searches, larger than any seed of the command line, so that no run is chosen for its own result."""


@dataclass(frozen=True)
class Setup:
    """Setup of a run.

    Attributes
    ----------
    effort : {"smoke", "quick", "full"}
        Size of the work. "smoke" is for tests: its numbers mean nothing.
    seeds : tuple of int
    ranks : int
    classes : int
        Number of classes of the data.
    """

    effort: Effort
    seeds: tuple[int, ...]
    ranks: int
    classes: int

    @property
    def chance(self) -> float:
        """Error of a random guess. It is the error of a run that diverged."""
        return 1.0 - 1.0 / self.classes


@dataclass
class Context:
    """Arguments of a piece of work: the data, and the ranks that work on it.

    Not collective.

    Attributes
    ----------
    setup : Setup
    dataset : Dataset
    comm : Communicator
        All ranks for a collective claim, otherwise this rank alone.
    groups : dict
        Communicators of groups of ranks that claims have made, for later pieces.
    """

    setup: Setup
    dataset: Dataset
    comm: Communicator
    groups: dict[str, Communicator] = field(default_factory=dict)
    _inputs: dict[int, Inputs] = field(default_factory=dict)

    def inputs(self, pool: int) -> Inputs:
        """Return the standardized images, with squares of ``pool`` × ``pool`` pixels averaged."""
        if pool not in self._inputs:
            self._inputs[pool] = prepare(self.dataset, pool=pool)
        return self._inputs[pool]


def fingerprint(dataset: Dataset) -> str:
    """Return a hash of the images and labels."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def check_images(dataset: Dataset, effort: Effort) -> None:
    """Raise ValueError unless there are enough images and their sides can be divided."""
    train, search, test = SAMPLES[effort]
    if len(dataset.x_train) < train + search or len(dataset.x_test) < test:
        raise ValueError(
            f"{dataset.name} has {len(dataset.x_train)} training and {len(dataset.x_test)} test images: the "
            f"claims need {train + search} and {test}"
        )
    height, width = dataset.x_train.shape[-2:]
    if height % POOL or width % POOL:
        raise ValueError(
            f"{dataset.name} has images of {height} x {width} pixels: the claims average squares of up to {POOL} x "
            f"{POOL} pixels, which must divide the images"
        )
