"""Which ranks of a communicator have come to a call: each counts its calls in a word that the others read."""

from __future__ import annotations

from typing import NamedTuple

from syncbn.comm.presence import SEATS, WORDS, Address, Presence

CLOSED, FOLLOWED = -1, -2
"""Instead of a number of calls: the rank will make no further call, after an error of its own or of others."""

_REASONS = {
    CLOSED: "closed the communicator after an error",
    FOLLOWED: "closed the communicator for the loss of another rank",
}

_free_words = list(range(WORDS - 1, SEATS - 1, -1))


class Seat(NamedTuple):
    """The word of one rank of one communicator, on the page of its process."""

    presence: Presence
    word: int

    @property
    def calls(self) -> int:
        """How many calls the rank has come to, or CLOSED, or FOLLOWED."""
        return self.presence.words[self.word]


class Board:
    """The seats of all ranks of a communicator, as one of them sees them.

    Parameters
    ----------
    rank, size : int
    name : str
        Of the communicator, for messages.

    Attributes
    ----------
    own : Seat
    others : dict of int to Seat
        Of the ranks that can be seen; filled by `seat`.
    """

    def __init__(self, rank: int, size: int, name: str) -> None:
        self.rank = rank
        self.size = size
        self.name = name
        if not _free_words:
            raise ValueError(f"{WORDS - SEATS} communicators are open: free() those that are not needed")
        self.own = Seat(Presence.own(), _free_words.pop())
        self.others: dict[int, Seat] = {}
        self._words, self._word = self.own.presence.words, self.own.word
        self._words[self._word] = 0

    @property
    def place(self) -> tuple[int, ...]:
        """Four integers by which other processes find this rank's seat."""
        return (*self.own.presence.address, self.own.word)

    def seat(self, rank: int, place: tuple[int, ...]) -> None:
        """Look at the seat of another rank from now on, if it can be seen from here."""
        *address, word = place
        presence = Presence.find(Address(*address))
        if rank != self.rank and presence is not None:
            self.others[rank] = Seat(presence, word)

    @property
    def unseen(self) -> list[int]:
        """Ranks of which nothing is known."""
        return [rank for rank in range(self.size) if rank not in self.others and rank != self.rank]

    def enter(self) -> None:
        """Count a call of this rank: all that the board costs while nobody waits for long."""
        self._words[self._word] += 1

    def absent(self) -> list[int]:
        """Return the ranks that have not come to the call that this one is in."""
        return [rank for rank, seat in self.others.items() if 0 <= seat.calls < self.own.calls]

    def lost(self) -> dict[int, str]:
        """Return the ranks that will make no further call, and why."""
        reasons = {rank: seat.presence.ended or _REASONS.get(seat.calls, "") for rank, seat in self.others.items()}
        return {rank: reason for rank, reason in reasons.items() if reason}

    def has_followed(self, rank: int) -> bool:
        """Tell whether another rank closed the communicator for the loss of a third, whatever it did then."""
        return self.others[rank].calls == FOLLOWED

    def close(self, *, followed: bool) -> None:
        """Say that this rank will make no further call."""
        self._words[self._word] = FOLLOWED if followed else CLOSED

    def free(self) -> None:
        """Give the seat to another communicator; only once no rank can be waiting for this one."""
        _free_words.append(self._word)
