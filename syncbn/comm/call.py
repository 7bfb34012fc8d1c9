"""What one rank calls, and the words that let ranks compare it."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]

WORD_BITS = 40
"""A word and its negative are whole float64 numbers."""

_WORD_MASK = (1 << WORD_BITS) - 1

_DIGEST_WORDS = 3
_NUMBERS = struct.Struct("=4d")  # native byte order, as the buffer's

HEADER_WORDS = 4 + 2 * _DIGEST_WORDS


@dataclass(slots=True)
class Signature:
    """What a rank says of its call before anything else; ranks agree when all fields are equal.

    Not to be changed. Nothing enforces it: a frozen dataclass takes three times as long to make.
    """

    def header(self, number: int) -> bytes:
        """Return the call and its ``number`` on the communicator as float64 words, each with its negative.

        They are whole numbers below 2⁴⁰.
        """
        return _header(number, 0, tuple(getattr(self, field.name) for field in fields(self)))

    def differences(self, other: Signature) -> list[str]:
        """Return ``name mine against theirs`` for each field that differs, or the whole for another kind of call."""
        if type(self) is not type(other):
            return [str(self)]
        return [
            f"{field.name} {getattr(self, field.name)!r} against {getattr(other, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


@dataclass(slots=True)
class Call(Signature):
    """One step of a synchronized layer or function.

    Attributes
    ----------
    direction : "forward" or "backward"
    layer : str
        Identity of the layer: its kind and the order of its creation on the communicator, or the
        ``name=`` of a functional call.
    channels : int
    dtype : str
        Name of x's dtype.
    reduction : "exact" or "float64"
    eps : float
    affine : str
        Which of weight and bias are there.
    forward_number : int
        For a backward: the call number of its forward. For a forward: 0.
    """

    direction: Direction
    layer: str
    channels: int
    dtype: str
    reduction: str
    eps: float
    affine: str
    forward_number: int = 0

    def header(self, number: int) -> bytes:
        """Return the call and its ``number``; only the number of the forward changes from step to step."""
        fixed = self.direction, self.layer, self.channels, self.dtype, self.reduction, self.eps, self.affine
        return _header(number, self.forward_number, fixed)

    def __str__(self) -> str:
        return (
            f"{self.direction} of {self.layer or 'a function'} ({self.channels} channels, {self.dtype}, "
            f"eps={self.eps:g}, affine: {self.affine}, reduction={self.reduction!r})"
        )


@dataclass(slots=True)
class Transfer(Signature):
    """A collective that stands alone, such as the sum of gradients.

    Attributes
    ----------
    operation : str
        Name of the communicator's method.
    elements : int
    dtype : str
    detail : str
        What else must agree: the reduction, the root or the size of groups.
    """

    operation: str
    elements: int = 0
    dtype: str = ""
    detail: str = ""

    def __str__(self) -> str:
        what = f" of {self.elements} {self.dtype}" if self.dtype else ""
        return f"{self.operation}{what}" + f" ({self.detail})" * bool(self.detail)


class NumberedCall(NamedTuple):
    """A call and its number on the communicator."""

    number: int
    call: Signature

    def __str__(self) -> str:
        return f"call {self.number}, {self.call}"


def _header(number: int, forward_number: int, fixed: tuple[object, ...]) -> bytes:
    number, origin = number & _WORD_MASK, forward_number & _WORD_MASK
    return _NUMBERS.pack(number, -number, origin, -origin) + _digest(fixed)


@lru_cache(maxsize=1024)
def _digest(identity: tuple[object, ...]) -> bytes:
    """Hash in words of 40 bits and their negatives: 120 bits that differ when a field does."""
    text = "|".join(map(str, identity))
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=15).digest(), "little")
    words = [(digest >> (WORD_BITS * i)) & _WORD_MASK for i in range(_DIGEST_WORDS)]
    return struct.pack(f"={2 * _DIGEST_WORDS}d", *words, *(-word for word in words))
