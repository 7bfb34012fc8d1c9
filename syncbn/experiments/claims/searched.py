"""The base class of claims whose learning rate is searched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from syncbn.experiments.claims.claim import Claim, Key, Piece, Result, S
from syncbn.experiments.claims.setup import SEARCH_SEED, Setup


class SearchedClaim(Claim[S]):
    """A claim whose settings have learning rates, ``rates``, which are tried for every variant alike.

    A subclass defines `variants` and `cost`, besides `measure` and `conclude`.
    """

    @abstractmethod
    def variants(self, setup: Setup) -> list[Key]:
        """Return the keys of all variants, without learning rate and seed."""

    @abstractmethod
    def cost(self, setup: Setup, variant: Key) -> float:
        """Return the estimated seconds of a run."""

    def search(self, setup: Setup) -> list[Piece]:
        """Return one run for each variant and learning rate."""
        return [
            Piece({**variant, "lr": rate, "seed": SEARCH_SEED}, self.cost(setup, variant))
            for variant in self.variants(setup)
            for rate in self._rates(setup)
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
        errors = {result.key["lr"]: result.numbers["error"] for result in found if result.matches(**variant)}
        rates = self._rates(setup)
        return float(min(sorted(errors), key=errors.__getitem__)) if errors else rates[len(rates) // 2]

    def _rates(self, setup: Setup) -> tuple[float, ...]:
        settings: Any = self.settings(setup)
        rates: tuple[float, ...] = settings.rates
        return rates
