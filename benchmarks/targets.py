"""Targets: ratios of the times of candidates that were measured alternately."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shapes import CONVOLUTIONAL, DENSE, label

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


BIG_DENSE = tuple(label(shape) for shape in DENSE if shape != (64, 64))
MEGABYTES = tuple(label(shape) for shape in (*CONVOLUTIONAL, *DENSE) if 4 * math.prod(shape) >= 10**6)

TARGETS = (
    Target("forward NCHW, against torch", ("forward, NCHW",), 5.0, "torch"),
    Target("forward channels-last, against torch", ("forward, channels-last",), 1.3, "torch"),
    Target("backward NCHW, against torch", ("backward, NCHW",), 1.4, "torch"),
    Target("backward channels-last, against torch", ("backward, channels-last",), 1.4, "torch"),
    *(
        Target(
            f"{direction} {layout}, against torch, worst shape", (f"{direction}, {layout}",), 1.0, "torch", over="worst"
        )
        for layout in LAYOUTS[:2]
        for direction in ("forward", "backward")
    ),
    *(
        Target(f"forward dense, against {name}", ("forward, dense",), 1.0, name, over="worst", cases=BIG_DENSE)
        for name in ("torch", "jax")
    ),
    Target("backward dense, against torch", ("backward, dense",), 0.75, "torch", over="worst", cases=BIG_DENSE),
    *(
        Target(f"a small {direction} (64×64), against torch", (f"{direction}, dense",), 2.0, "torch", cases=("64×64",))
        for direction in ("forward", "backward")
    ),
    Target("dense, float64 sums, against torch", ("forward+backward, dense",), 1.0, "torch", "syncbn float64"),
    *(
        Target(f"{direction} {layout}, against JAX", (f"{direction}, {layout}",), 1.0, "jax", over="worst")
        for layout in LAYOUTS[:2]
        for direction in ("forward", "backward")
    ),
    *(
        Target(f"{direction} NCHW, against oneDNN", (f"{direction}, NCHW",), 1.0, "onednn", over="worst")
        for direction in ("forward", "backward")
    ),
    Target("forward, against the memory limit", ("forward, memory limit",), 1.25, "limit", at_most=True),
    Target("backward, against the memory limit", ("backward, memory limit",), 1.25, "limit", at_most=True),
    *(
        Target(f"{norm}, against torch", (f"forward+backward, {norm}",), limit, "torch")
        for norm, limit in (("GN", 1.2), ("LN", 1.3), ("IN", 3.0))
    ),
    Target("evaluation, against torch", ("evaluation",), 1.3, "torch"),
    Target(
        "evaluation of 1 MB and more, against ONNX Runtime",
        ("evaluation",),
        1.0,
        "onnxruntime",
        over="worst",
        cases=MEGABYTES,
    ),
    Target("two threads against one", ("forward+backward, threads",), 1.7, "1 thread", "2 threads"),
    Target("SyncBN on 2 ranks, against gloo", ("SyncBN, forward+backward",), 8.0, "gloo", over="total"),
    Target("training step of mlp, against torch", ("training, mlp",), 0.6, "torch", at_most=True),
    Target("training step of resnet, against torch", ("training, resnet",), 0.6, "torch", at_most=True),
)
