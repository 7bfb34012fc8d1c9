"""Configuration of ``syncbn scale``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncbn._core.checks import REDUCTIONS, Reduction
from syncbn.experiments.bn_layers import NETWORKS, layer_channels
from syncbn.experiments.scale.messages import DIRECTIONS, layer_messages

MAX_RANKS = 32767
"""Largest number of ranks for which the limbs of exact sums have capacity."""


@dataclass(frozen=True)
class ScaleConfig:
    """Configuration of a prediction.

    Attributes
    ----------
    network : str
        Key of `NETWORKS`; ignored if ``channels`` are given.
    channels : tuple of int
        Channels of every layer; empty means those of ``network``.
    batch : int
        Samples per rank.
    reduction : {"exact", "float64"}
    at : tuple of int
        Numbers of ranks to predict.
    groups : tuple of int
        Group sizes to predict in addition to all ranks.

    Raises
    ------
    ValueError
        A value is not valid.
    """

    network: str = "resnet50"
    channels: tuple[int, ...] = ()
    batch: int = 2
    reduction: Reduction = "exact"
    at: tuple[int, ...] = (2, 4, 16, 64, 256, 1024, 4096, 16384)
    groups: tuple[int, ...] = (8, 64)
    widths: tuple[int, ...] = field(init=False)
    """Channels of every layer."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("network", self.network, tuple(NETWORKS)),
            ("reduction", self.reduction, REDUCTIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r} (choose from {', '.join(known)})")
        for name, values in (("channels", self.channels), ("batch", (self.batch,)), ("groups", self.groups)):
            if any(value < 1 for value in values):
                raise ValueError(f"{name} must be at least 1, got {min(values)}")
        if not self.at or not all(1 <= ranks <= MAX_RANKS for ranks in self.at):
            raise ValueError(f"at must be numbers of ranks from 1 to {MAX_RANKS:,}, got {', '.join(map(str, self.at))}")
        object.__setattr__(self, "widths", self.channels or layer_channels(NETWORKS[self.network]))

    @property
    def shapes(self) -> Mapping[tuple[int, ...], int]:
        """Number of layers for each shape of the batch of a rank; empty if only channels are known."""
        if self.channels:
            return {}
        return {(self.batch, *shape): count for shape, count in NETWORKS[self.network].items()}

    @property
    def title(self) -> str:
        """Description of the prediction in one line."""
        name = "layers given" if self.channels else self.network
        messages = [
            message
            for width in self.widths
            for direction in DIRECTIONS
            for message in layer_messages(width, direction, self.reduction)
        ]
        sent = sum(message.nbytes for message in messages) / 2**20
        return (
            f"{name}: {len(self.widths)} layers, {sum(self.widths):,} channels, {self.reduction} sums; "
            f"a step has {len(messages)} allreduces of {sent:.3g} MiB in total"
        )
