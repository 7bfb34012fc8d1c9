"""The base class of claims whose learning rate is searched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from syncbn.experiments.claims.claim import Claim, Key, Numbers, Piece, Result, S
from syncbn.experiments.claims.setup import SEARCH_SEED, Effort, Setup

EXTENSIONS: Mapping[Effort, int] = {"smoke": 0, "quick": 1, "full": 2}
"""Number of learning rates by which the search extends the grid at most, beyond each of its ends."""


class SearchedClaim(Claim[S]):
    """A claim whose settings have learning rates, ``rates``, which are tried for every variant alike.

    If the best one of a variant is the smallest or largest that was tried, the grid of this variant is extended, up to
    a limit that is the same for all variants. A subclass defines `variants` and `cost`, besides `measure` and
    `conclude`.
    """

    @abstractmethod
    def variants(self, setup: Setup) -> list[Key]:
        """Return the keys of all variants, without learning rate and seed."""

    @abstractmethod
    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""

    def search(self, setup: Setup, found: Sequence[Result] = ()) -> list[Piece]:
        """Return one run for each variant and learning rate, those of the extended grids included."""
        return [
            Piece({**variant, "lr": rate, "seed": SEARCH_SEED}, self.cost(setup, variant))
            for variant in self.variants(setup)
            for rate in self._extended(setup, found, variant)
        ]

    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:
        """Return one run for each seed and variant, with the learning rate that the search has chosen."""
        return [
            Piece({**variant, "lr": self.rate(setup, found, variant), "seed": seed}, self.cost(setup, variant))
            for seed in setup.seeds
            for variant in self.variants(setup)
        ]

    def rate(self, setup: Setup, found: Sequence[Result], variant: Key) -> float:
        """Return the learning rate with the lowest error in the search, the smaller one of two equal ones.

        Without results, which happens when the length of the work is estimated, it is the one in the middle.
        """
        errors, rates = _errors(found, variant), self._rates(setup)
        return float(min(sorted(errors), key=errors.__getitem__)) if errors else rates[len(rates) // 2]

    def search_table(self, setup: Setup, found: Sequence[Result]) -> list[Numbers]:
        """Return the error of each variant and learning rate, and which is chosen."""
        rows = []
        for variant in self.variants(setup):
            chosen = self.rate(setup, found, variant)
            errors = _errors(found, variant)
            rows += [{**variant, "lr": lr, "error": errors[lr], "chosen": lr == chosen} for lr in sorted(errors)]
        return rows

    def search_notes(self, setup: Setup, found: Sequence[Result]) -> list[str]:
        """Return the variants whose learning rate is the smallest or largest that was tried."""
        at_edge = []
        for variant in self.variants(setup):
            tried, chosen = sorted(_errors(found, variant)), self.rate(setup, found, variant)
            if len(tried) > 1 and chosen in (tried[0], tried[-1]):
                at_edge.append(f"{Piece(variant, 0.0)} ({'smallest' if chosen == tried[0] else 'largest'}, {chosen:g})")
        if not at_edge:
            return []
        return [
            "The search chose the smallest or largest learning rate that it tried, so a better one may be outside, "
            "for: " + "; ".join(at_edge) + "."
        ]

    def _extended(self, setup: Setup, found: Sequence[Result], variant: Key) -> list[float]:
        """Return the learning rates of a variant: the grid, and one more beyond an end where the best one is."""
        rates, limit = sorted(self._rates(setup)), EXTENSIONS[setup.effort]
        tried = sorted(_errors(found, variant)) or rates
        if not _errors(found, variant) or len(rates) < 2:
            return tried
        best = self.rate(setup, found, variant)
        if best == tried[-1] and tried.index(rates[-1]) >= len(tried) - limit:
            return [*tried, _beyond(tried[-2], best)]
        if best == tried[0] and tried.index(rates[0]) < limit:
            return [_beyond(tried[1], best), *tried]
        return tried

    def _rates(self, setup: Setup) -> tuple[float, ...]:
        settings: Any = self.settings(setup)
        rates: tuple[float, ...] = settings.rates
        return rates


def _errors(found: Sequence[Result], variant: Key) -> dict[float, float]:
    return {result.key["lr"]: result.numbers["error"] for result in found if result.matches(**variant)}


def _beyond(inner: float, end: float) -> float:
    """Return the next learning rate beyond the end of a grid, which continues its last ratio, with two digits."""
    return float(f"{end**2 / inner:.2g}")
