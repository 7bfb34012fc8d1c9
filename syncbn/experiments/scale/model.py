"""What a synchronized layer and a training step cost on P ranks."""

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
        α and β, or L, o, g and G.
    gamma : float
        γ, microseconds to add up one byte.
    software : float
        κ, microseconds of a message before and after the network, whatever the number of ranks.
    skew : Skew
        How far apart ranks come to a call.
    call : float
        c, microseconds of a layer's own software for each direction, beside its messages.
    """

    link: Link
    gamma: float = 0.0
    software: float = 0.0
    skew: Skew = NO_SKEW
    call: float = 0.0

    def without_skew(self) -> Machine:
        """Return the same machine with ranks that come at the same time."""
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
        That each rank contributes.
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
    """Return the microseconds that synchronizing adds to one layer, forward and backward.

    For each direction: c; the wait for the last rank, once, since the messages that follow the first find all
    ranks there; and the allreduces of `layer_messages`. 0 on one rank.

    Parameters
    ----------
    machine : Machine
    algorithm : callable
    ranks : int
        That share statistics: all of them, or those of one group.
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
    """Return the microseconds that synchronizing all layers adds to a training step.

    Groups (`split`) talk at the same time and are taken not to disturb each other. What ranks of different
    groups wait for each other when gradients are added up is not counted: local batch normalization has
    that too.

    Parameters
    ----------
    machine : Machine
    algorithm : callable
    ranks : int
        P, all of them.
    channels : sequence of int
        Of every layer.
    reduction : {"exact", "float64"}
    group_size : int, optional
        Ranks that share statistics. Default: all.
    """
    together = min(ranks, group_size or ranks)
    return sum(
        channels.count(width) * layer_time(machine, algorithm, together, width, reduction) for width in set(channels)
    )


def share(synchronizing: float, computing: float) -> float:
    """Return the part of a step that synchronizing takes, when everything else takes ``computing``."""
    return synchronizing / (synchronizing + computing)
