"""Cases of the benchmark: candidates that must compute equal results, which is checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np


class DisagreementError(Exception):
    """Two candidates compute different results, so a comparison of their times is meaningless."""


@dataclass(frozen=True)
class Candidate:
    """One implementation of the work of a case.

    Attributes
    ----------
    run : callable
        Does the work once; the function that is timed.
    outputs : callable, optional
        Converts the result of ``run`` to the arrays that must be equal for all candidates of the case. None for a
        reference, such as a copy, whose results are not comparable.
    within : callable
        Returns the context manager of each round, whose time is not included.
    threads : int
        Number of threads that it may use.
    cpu_share : float
        Largest CPU time per second and thread; more indicates additional threads.
    """

    run: Callable[[], Any]
    outputs: Callable[[Any], tuple[Any, ...]] | None = None
    within: Callable[[], AbstractContextManager[None]] = nullcontext
    threads: int = 1
    cpu_share: float = 1.5


@dataclass(frozen=True)
class Case:
    """Candidates that do equal work on equal data.

    Attributes
    ----------
    group : str
        The kind of work, to which targets refer.
    name : str
        Name within the group, such as a shape.
    candidates : dict of str to Candidate
    size : int
        Size of x in bytes.
    weight : int
        Weight in totals.
    point : float or None
        Position on the axis of a curve.
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
        The outputs differ in number, shape or values, or are not finite.
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
