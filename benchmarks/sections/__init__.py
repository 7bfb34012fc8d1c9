"""Sections of the benchmark: each file yields the cases of one section, to be checked and timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One file of cases.

    Attributes
    ----------
    about : str
        One line for ``--help``.
    ranks : tuple of int
        Numbers of MPI ranks on which it runs; 0 means one process without MPI.
    once : bool
        Whether it runs in the first pass only, because its curves have no targets.
    """

    about: str
    ranks: tuple[int, ...] = (0,)
    once: bool = False


SECTIONS = {
    "batch_norm": Section("training forward and backward, both memory orders and dense, against PyTorch and JAX"),
    "limits": Section("the largest shape against the limits set by the memory"),
    "normalizers": Section("group, layer and instance normalization against PyTorch"),
    "inference": Section("evaluation against PyTorch and ONNX Runtime"),
    "threads": Section("two threads against one"),
    "training": Section("a training step of `syncbn compare`'s networks against PyTorch"),
    "synchronized": Section("all layers of ResNet-50 on 2 ranks against torch.distributed with gloo", ranks=(2,)),
    "growth": Section("growth of time with samples, channels, spatial size and threads", once=True),
    "rank_growth": Section("growth of time with ranks", ranks=(1, 2, 3, 4), once=True),
}
"""All sections by the name of their file, in the order in which they run."""
