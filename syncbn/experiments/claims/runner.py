"""The run of the claims on the ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syncbn.comm import SERIAL, Communicator
from syncbn.data import Dataset
from syncbn.experiments.claims.claim import Claim, Conclusion, Key, Piece, Result
from syncbn.experiments.claims.setup import Context, Setup
from syncbn.experiments.claims.store import Store
from syncbn.experiments.progress import Progress
from syncbn.train.errors import collective_errors


@dataclass(frozen=True)
class Finished:
    """A claim that is measured.

    Attributes
    ----------
    claim : Claim
    conclusion : Conclusion
    search, results : sequence of Result
        Results of the search and of the pieces.
    """

    claim: Claim[Any]
    conclusion: Conclusion
    search: Sequence[Result]
    results: Sequence[Result]

    @property
    def seconds(self) -> float:
        """Time of all pieces."""
        return sum(result.seconds for result in (*self.search, *self.results))


def run_claims(
    claims: Sequence[Claim[Any]],
    setup: Setup,
    dataset: Dataset,
    comm: Communicator,
    store: Store | None = None,
    progress: Progress | None = None,
    keep: Callable[[Finished], object] | None = None,
) -> list[Finished]:
    """Measure all claims.

    Collective, and so are its errors. Rank 0 keeps finished pieces in ``store`` and takes from it those that an earlier
    run has finished.

    Parameters
    ----------
    claims : sequence of Claim
    setup : Setup
    dataset : Dataset
        Equal on all ranks.
    comm : Communicator
    store : Store, optional
        Only that of rank 0 is used.
    progress : Progress, optional
        Receives the progress, on rank 0.
    keep : callable, optional
        Called on rank 0 with every finished claim.
    """
    progress = progress or Progress()
    done = _kept(claims, setup, comm, store)
    parallel = {True: 1, False: comm.size}
    plan = {claim.name: [*claim.search(setup), *claim.pieces(setup, [])] for claim in claims}
    total = sum(piece.cost / parallel[claim.collective] for claim in claims for piece in plan[claim.name])
    worker = _Worker(setup, dataset, comm, store, progress)
    progress.begin(sum(map(len, plan.values())), total)
    finished = []
    try:
        for claim in claims:
            search = worker.search(claim, done)
            results = worker.run(claim, claim.pieces(setup, search), done)
            with collective_errors(comm, f"conclude {claim.name}"):
                if comm.rank == 0:
                    finished.append(Finished(claim, claim.conclude(setup, search, results), search, results))
                    if keep is not None:
                        keep(finished[-1])
        worker.free()
    finally:
        progress.end()
    return finished


class _Worker:
    """The work on the pieces of a claim."""

    def __init__(
        self, setup: Setup, dataset: Dataset, comm: Communicator, store: Store | None, progress: Progress
    ) -> None:
        self.comm = comm
        self.store = store
        self.progress = progress
        self.contexts = {True: Context(setup, dataset, comm), False: Context(setup, dataset, SERIAL)}

    def free(self) -> None:
        """Free the communicators that claims have made. Collective."""
        for group in self.contexts[True].groups.values():
            group.free()

    def search(self, claim: Claim[Any], done: dict[str, Result]) -> list[Result]:
        """Return the results of the search, with the pieces by which it grows. Collective."""
        setup, found = self.contexts[False].setup, list[Result]()
        while pieces := _further(claim, setup, found):
            if found:
                width = 1 if claim.collective else self.comm.size
                self.progress.extend(len(pieces), sum(piece.cost for piece in pieces) / width)
            found += self.run(claim, pieces, done)
        return found

    def run(self, claim: Claim[Any], pieces: Sequence[Piece], done: dict[str, Result]) -> list[Result]:
        """Return the results of the pieces in their order. Collective."""
        left = [piece for piece in pieces if _identity(claim, piece.key) not in done]
        width = 1 if claim.collective else self.comm.size
        for piece in pieces:
            if piece not in left:
                self.progress.advance(1, piece.cost / width, kept=True)
        if width > 1:  # pieces of similar length at the same time
            left.sort(key=lambda piece: piece.cost, reverse=True)
        for start in range(0, len(left), width):
            part = left[start : start + width]
            more = f" and {len(part) - 1} more" * (len(part) > 1)
            self.progress.show(f"{claim.name}: {part[0]}{more}")
            for result in self._measure(claim, part):
                done[_identity(claim, result.key)] = result
                if self.store is not None and self.comm.rank == 0:
                    self.store.put(claim, result)
            self.progress.advance(len(part), sum(piece.cost for piece in part) / width)
        return [done[_identity(claim, piece.key)] for piece in pieces]

    def _measure(self, claim: Claim[Any], part: Sequence[Piece]) -> list[Result]:
        """Return the results of pieces, one on all ranks or one on each rank. Collective."""
        own = 0 if claim.collective else self.comm.rank
        result = None
        with collective_errors(self.comm, f"measure {claim.name}"):
            if own < len(part):
                start = time.perf_counter()
                with np.errstate(all="ignore"):  # divergence is a valid result
                    numbers = claim.measure(part[own].key, self.contexts[claim.collective])
                numbers = json.loads(json.dumps(numbers, allow_nan=False))  # as the store gives them later
                result = Result(part[own].key, numbers, time.perf_counter() - start)
        gathered = self.comm.allgather(result)
        return [found for found in gathered[: len(part)] if found is not None]


def _kept(claims: Sequence[Claim[Any]], setup: Setup, comm: Communicator, store: Store | None) -> dict[str, Result]:
    """Return the kept results by claim and key. Collective."""
    found: dict[str, Result] = {}
    if comm.rank == 0 and store is not None:
        for claim in claims:
            search: list[Result] = []
            while pieces := _further(claim, setup, search):
                results = _stored(store, claim, pieces, found)
                if results is None:
                    break
                search += results
            else:  # the search is complete, so the keys of the pieces are known
                _stored(store, claim, claim.pieces(setup, search), found)
    return comm.allgather(found)[0]


def _further(claim: Claim[Any], setup: Setup, found: Sequence[Result]) -> list[Piece]:
    """Return the pieces of the search that have no result yet."""
    known = {_identity(claim, result.key) for result in found}
    return [piece for piece in claim.search(setup, found) if _identity(claim, piece.key) not in known]


def _stored(store: Store, claim: Claim[Any], pieces: Sequence[Piece], found: dict[str, Result]) -> list[Result] | None:
    """Add the kept results of pieces, and return them if none is missing."""
    results = [store.get(claim, piece.key) for piece in pieces]
    known = [result for result in results if result is not None]
    found.update({_identity(claim, result.key): result for result in known})
    return known if len(known) == len(pieces) else None


def _identity(claim: Claim[Any], key: Key) -> str:
    return json.dumps([claim.name, key], sort_keys=True)
