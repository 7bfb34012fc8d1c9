"""Targets: ratios of the times of candidates that were measured alternately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Over = Literal["geometric mean", "worst", "total"]
LAYOUTS = ("NCHW", "channels-last", "dense")


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    Attributes
    ----------
    name : str
    groups : tuple of str
        Groups of its cases.
    limit : float
    baseline : str
        Candidate with which syncbn is compared.
    candidate : str
        Candidate of syncbn.
    at_most : bool
        False: baseline ÷ candidate ("times as fast") must be at least the limit.
        True: candidate ÷ baseline ("times as long") must be at most the limit.
    over : {"geometric mean", "worst", "total"}
        Reduction of the cases to one number; "total" is the ratio of the times of all layers of a network.
    cases : tuple of str
        Names of the cases; empty means all cases of the groups.
    """

    name: str
    groups: tuple[str, ...]
    limit: float
    baseline: str
    candidate: str = "syncbn"
    at_most: bool = False
    over: Over = "geometric mean"
    cases: tuple[str, ...] = ()

    def is_met_by(self, ratio: float) -> bool:
        """Return whether a ratio meets the limit."""
        return ratio <= self.limit if self.at_most else ratio >= self.limit


TARGETS = (
    Target("forward NCHW, against torch", ("forward, NCHW",), 4.0, "torch"),
    Target("forward channels-last, against torch", ("forward, channels-last",), 1.3, "torch"),
    Target("backward NCHW, against torch", ("backward, NCHW",), 1.3, "torch"),
    Target("backward channels-last, against torch", ("backward, channels-last",), 1.5, "torch"),
    Target("dense, float64 sums, against torch", ("forward+backward, dense",), 1.0, "torch", "syncbn float64"),
    Target("dense, exact sums, against torch", ("forward+backward, dense",), 0.5, "torch"),
    Target("a small call (64×64 forward)", ("forward, dense",), 1.5, "torch", at_most=True, cases=("64×64",)),
    *(
        Target(f"{direction} {layout}, against JAX", (f"{direction}, {layout}",), 1.0, "jax", over="worst")
        for layout in LAYOUTS
        for direction in ("forward", "backward")
    ),
    Target("forward, against the memory limit", ("forward, memory limit",), 1.25, "limit", at_most=True),
    Target("backward, against the memory limit", ("backward, memory limit",), 1.25, "limit", at_most=True),
    *(Target(f"{norm}, against torch", (f"forward+backward, {norm}",), 1.0, "torch") for norm in ("GN", "LN", "IN")),
    Target("evaluation, against torch", ("evaluation",), 1.0, "torch"),
    Target("evaluation, against ONNX Runtime", ("evaluation",), 1.0, "onnxruntime"),
    Target("two threads against one", ("forward+backward, threads",), 1.7, "1 thread", "2 threads"),
    Target("SyncBN on 2 ranks, against gloo", ("SyncBN, forward+backward",), 5.0, "gloo", over="total"),
    Target("training step of mlp, against torch", ("training, mlp",), 1.5, "torch", at_most=True),
    Target("training step of resnet, against torch", ("training, resnet",), 1.5, "torch", at_most=True),
)
