"""Signatures: descriptions of collective calls, which ranks compare."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

Direction = Literal["forward", "backward"]

DIGEST_INTEGERS = 3

INTEGER_BITS = 40
"""Each integer of a digest and its negative are exact in float64."""


@dataclass(frozen=True)
class CollectiveSignature:
    """The description of a collective call: ranks agree when all fields are equal.

    Attributes
    ----------
    operation : str
        Name of the operation; "forward" or "backward" for a layer.
    arguments : tuple of (str, value)
        Names and values of the arguments that must be equal on all ranks.
    layer : str or None
        Identity of a layer: its class and the order of its creation on the communicator, or the ``name=`` of a
        functional call.
    has_data : bool
        Whether data are sent after the handshake.
    """

    operation: str
    arguments: tuple[tuple[str, Any], ...] = ()
    layer: str | None = None
    has_data: bool = False

    @cached_property
    def digest(self) -> bytes:
        """120 bits of a hash of all fields, as three integers and their negatives in float64."""
        fields = (self.operation, self.layer, self.has_data, *self.arguments)
        text = "|".join(map(str, fields))
        bits = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=15).digest(), "little")
        integers = [(bits >> (INTEGER_BITS * i)) & ((1 << INTEGER_BITS) - 1) for i in range(DIGEST_INTEGERS)]
        return struct.pack(f"={2 * DIGEST_INTEGERS}d", *integers, *(-integer for integer in integers))

    @cached_property
    def backward(self) -> CollectiveSignature:
        """The signature of the backward of a forward."""
        return replace(self, operation="backward")

    def differences(self, other: CollectiveSignature) -> list[str]:
        """Return a text for each field that differs; one text, the whole call, if the arguments have other names."""
        mine, theirs = self._compared(), other._compared()
        if mine.keys() != theirs.keys():
            return [str(self)]
        return [f"{name} {mine[name]!r} against {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def _compared(self) -> dict[str, Any]:
        layer = {} if self.layer is None else {"layer": self.layer}
        return {"operation": self.operation, **layer, **dict(self.arguments)}

    def __str__(self) -> str:
        layer = "" if self.layer is None else f" of {self.layer or 'a function'}"
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"{self.operation}{layer}" + f" ({arguments})" * bool(arguments)


CONSTRUCTION = CollectiveSignature("constructing the communicator")


@lru_cache(maxsize=4096)
def layer_signature(
    layer: str, channels: int, dtype_name: str, reduction: str, eps: float, affine: str
) -> CollectiveSignature:
    """Return the signature of a forward; cached, since a layer makes the same calls in every step.

    Parameters
    ----------
    layer : str
        Identity of the layer, as described in `CollectiveSignature`.
    channels : int
    dtype_name : str
        Name of x's dtype.
    reduction : {"exact", "float64"}
    eps : float
    affine : str
        Names of the parameters that the call has: weight, bias, both or none.
    """
    arguments = {"channels": channels, "dtype": dtype_name, "reduction": reduction, "eps": eps, "affine": affine}
    return CollectiveSignature("forward", tuple(arguments.items()), layer, has_data=True)


@lru_cache(maxsize=4096)
def unknown_signature(direction: Direction, layer: str) -> CollectiveSignature:
    """Return the signature of a layer's call whose input could not be read."""
    return CollectiveSignature(direction, layer=layer, has_data=True)


class Signatures:
    """The signatures of the layers of one communicator."""

    layer_signature: ClassVar[Callable[..., CollectiveSignature]] = staticmethod(layer_signature)
    unknown_signature: ClassVar[Callable[..., CollectiveSignature]] = staticmethod(unknown_signature)
    _layers: int = 0

    def register_layer(self, kind: str) -> str:
        """Return the identity of a new layer: ``kind`` and its number in the order of creation.

        Not collective, but all ranks must create their layers in the same order, since it identifies them.
        """
        self._layers += 1
        return f"{kind} #{self._layers}"
