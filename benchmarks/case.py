"""What is timed: candidates that must compute the same thing, and the check that they do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np


class DisagreementError(Exception):
    """Two candidates do not compute the same thing, so that comparing their times means nothing."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the work of a case.

    Attributes
    ----------
    run : callable
        Does the work once; this is what is timed.
    outputs : callable, optional
        From what ``run`` returns to the arrays that all candidates of the case must agree on. None: a
        yardstick, such as a copy, which computes nothing comparable.
    within : callable
        Returns the context in which each round of it runs, entered and left outside the time.
    threads : int
        How many threads it may use.
    """

    run: Callable[[], Any]
    outputs: Callable[[Any], tuple[Any, ...]] | None = None
    within: Callable[[], AbstractContextManager[None]] = nullcontext
    threads: int = 1


@dataclass(frozen=True)
class Case:
    """Candidates that do the same work on the same data.

    Attributes
    ----------
    group : str
        The kind of work, under which targets find it.
    name : str
        What tells it from the others of its group, such as a shape.
    candidates : dict of str to Candidate
    size : int
        Bytes of x.
    weight : int
        How often it counts in totals.
    point : float or None
        Where it lies on the axis of a curve.
    tolerance : float
        Largest difference of outputs, relative to the largest magnitude of the array.
    """

    group: str
    name: str
    candidates: dict[str, Candidate]
    size: int = 0
    weight: int = 1
    point: float | None = None
    tolerance: float = 2e-5


def check(case: Case) -> None:
    """Run every candidate once and compare its outputs with those of the first.

    Raises
    ------
    DisagreementError
        They differ in number, shape or values, or are not finite.
    """
    first: tuple[str, list[np.ndarray]] | None = None
    for name, candidate in case.candidates.items():
        with candidate.within():
            result = candidate.run()
        if candidate.outputs is None:
            continue
        arrays = [np.asarray(array, dtype=np.float64) for array in candidate.outputs(result)]
        if first is None:
            first = name, arrays
            continue
        where = f"{case.group}, {case.name}: {name} and {first[0]}"
        if [a.shape for a in arrays] != [a.shape for a in first[1]]:
            raise DisagreementError(f"{where}: {[a.shape for a in arrays]} and {[a.shape for a in first[1]]}")
        for position, (array, expected) in enumerate(zip(arrays, first[1], strict=True)):
            difference = float(np.max(np.abs(array - expected), initial=0.0))
            largest = float(np.max(np.abs(expected), initial=0.0))
            if not difference <= case.tolerance * largest:  # NaN is a difference
                raise DisagreementError(
                    f"{where} differ by {difference:.3g} in output {position}, whose largest value is {largest:.3g}"
                )
