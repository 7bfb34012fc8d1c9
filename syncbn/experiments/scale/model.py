"""The model of the cost of a synchronized layer and of a training step on P ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from syncbn._core.checks import Reduction
from syncbn.experiments.scale.algorithms import Algorithm
from syncbn.experiments.scale.links import Link
from syncbn.experiments.scale.messages import DIRECTIONS, layer_messages
from syncbn.experiments.scale.skew import NO_SKEW, Skew


@dataclass(frozen=True)
class Machine:
    """The parameters of a machine.

    Attributes
    ----------
    link : Link
        Model of the network: α and β, or L, o, g and G.
    gamma : float
        γ, microseconds to add one byte.
    software : float
        κ, microseconds of an allreduce outside the network, for any number of ranks.
    skew : Skew
        Model of the delays with which ranks enter a call.
    call : float
        c, microseconds of the software of a layer per direction, besides its messages.
    """

    link: Link
    gamma: float = 0.0
    software: float = 0.0
    skew: Skew = NO_SKEW
    call: float = 0.0

    def without_skew(self) -> Machine:
        """Return this machine without delays of ranks."""
        return replace(self, skew=NO_SKEW)


def allreduce_time(machine: Machine, algorithm: Algorithm, ranks: int, nbytes: float) -> float:
    """Return the microseconds of one allreduce: κ + Σ over steps of T(n) + γ·added; 0 for one rank.

    Parameters
    ----------
    machine : Machine
    algorithm : callable
        One of `ALGORITHMS`.
    ranks : int
        P.
    nbytes : float
        Bytes that each rank contributes.
    """
    if ranks == 1:
        return 0.0
    steps = algorithm(ranks, nbytes)
    return machine.software + sum(
        step.repeats * (machine.link.step(step.nbytes) + step.added * machine.gamma) for step in steps
    )


def layer_time(
    machine: Machine, algorithm: Algorithm, ranks: int, channels: int, reduction: Reduction = "exact"
) -> float:
    """Return the microseconds that synchronization adds to one layer, forward and backward.

    Each direction takes c, the wait for the last rank (once, because the first message synchronizes the ranks) and the
    allreduces of `layer_messages`. The result is 0 on one rank.

    Parameters
    ----------
    machine : Machine
    algorithm : callable
    ranks : int
        Number of ranks that share statistics: all ranks, or those of one group.
    channels : int
    reduction : {"exact", "float64"}
    """
    if ranks == 1:
        return 0.0
    return sum(
        machine.call
        + machine.skew.wait(ranks)
        + sum(
            allreduce_time(machine, algorithm, ranks, message.nbytes)
            for message in layer_messages(channels, direction, reduction)
        )
        for direction in DIRECTIONS
    )


def step_time(
    machine: Machine,
    algorithm: Algorithm,
    ranks: int,
    channels: Sequence[int],
    reduction: Reduction = "exact",
    group_size: int | None = None,
) -> float:
    """Return the microseconds that synchronization of all layers adds to a training step.

    Groups (`split`) communicate at the same time and are assumed not to slow each other down. Waits between groups
    in the sum of the gradients are not included, because they also occur with local batch normalization.

    Parameters
    ----------
    machine : Machine
    algorithm : callable
    ranks : int
        P, the number of all ranks.
    channels : sequence of int
        Channels of every layer.
    reduction : {"exact", "float64"}
    group_size : int, optional
        Number of ranks that share statistics. Default: all.
    """
    sharing = min(ranks, group_size or ranks)
    return sum(
        channels.count(width) * layer_time(machine, algorithm, sharing, width, reduction) for width in set(channels)
    )


def share(synchronization: float, computing: float) -> float:
    """Return the fraction of a step that synchronization takes if the rest takes ``computing``."""
    return synchronization / (synchronization + computing)
