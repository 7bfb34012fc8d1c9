"""What one rank calls, and the words that let ranks compare it."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, NamedTuple

from syncbn._core.message import DIGEST_WORDS

Direction = Literal["forward", "backward"]

WORD_BITS = 40
"""A word and its negative are whole float64 numbers."""


@dataclass(frozen=True)
class Signature:
    """What a rank says of its call before anything else; ranks agree when all fields are equal.

    Attributes
    ----------
    followed : bool
        Whether the first message is followed by others, once ranks have agreed.
    """

    followed: ClassVar[bool] = False

    @cached_property
    def digest(self) -> bytes:
        """120 bits that differ when a field does, as float64 words, each with its negative."""
        text = "|".join([str(self.followed), *(str(getattr(self, field.name)) for field in fields(self))])
        bits = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=15).digest(), "little")
        words = [(bits >> (WORD_BITS * i)) & ((1 << WORD_BITS) - 1) for i in range(DIGEST_WORDS // 2)]
        return struct.pack(f"={DIGEST_WORDS}d", *words, *(-word for word in words))

    def differences(self, other: Signature) -> list[str]:
        """Return ``name mine against theirs`` for each field that differs, or the whole for another kind of call."""
        if [field.name for field in fields(self)] != [field.name for field in fields(other)]:
            return [str(self)]
        return [
            f"{field.name} {getattr(self, field.name)!r} against {getattr(other, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


@dataclass(frozen=True)
class Call(Signature):
    """One direction of a synchronized layer or function.

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
    """

    followed: ClassVar[bool] = True

    direction: Direction
    layer: str
    channels: int
    dtype: str
    reduction: str
    eps: float
    affine: str

    @cached_property
    def backward(self) -> Call:
        """The backward of a forward."""
        return replace(self, direction="backward")

    def __str__(self) -> str:
        return (
            f"{self.direction} of {self.layer or 'a function'} ({self.channels} channels, {self.dtype}, "
            f"eps={self.eps:g}, affine: {self.affine}, reduction={self.reduction!r})"
        )


call_of = lru_cache(maxsize=4096)(Call)
"""The call of these fields: one that was made before, since a layer makes the same calls in every step."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Exchange(Transfer):
    """A collective whose elements are sent after the first message."""

    followed: ClassVar[bool] = True


class NumberedCall(NamedTuple):
    """A call and its number on the communicator."""

    number: int
    call: Signature

    def __str__(self) -> str:
        return f"call {self.number}, {self.call}"
