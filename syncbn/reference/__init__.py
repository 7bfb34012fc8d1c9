"""The reference implementation of every compiled kernel: same name, same signature, same results, in NumPy.

The kernels go through a block of channels at a time; a reference implementation makes its steps one after the other,
each a function of its own.

It is the oracle of the tests and the place to read what a kernel computes. ``SYNCBN_KERNELS=reference``
in the environment runs the whole package on it.

Axes are in the names: n samples, c channels, s values of a row, r rows, d features. ncs is channels-first
memory, nsc channels-last. Arrays ending in ``_nc`` of means and factors have 1 or N rows. A mask of shape
(0, 0) selects everything. A comment in each parameter list separates inputs from outputs; ``threads`` is for the
compiled kernels alone.
"""

from __future__ import annotations

from syncbn.reference.batch import batch_backward, batch_forward, batch_inference
from syncbn.reference.features import feature_backward, feature_forward
from syncbn.reference.groups import group_backward, group_forward
from syncbn.reference.ranks import (
    rank_gradient_ranges,
    rank_gradient_sums,
    rank_input_gradient,
    rank_normalize,
    rank_ranges,
    rank_sums,
)

__all__ = [
    "batch_backward",
    "batch_forward",
    "batch_inference",
    "feature_backward",
    "feature_forward",
    "group_backward",
    "group_forward",
    "rank_gradient_ranges",
    "rank_gradient_sums",
    "rank_input_gradient",
    "rank_normalize",
    "rank_ranges",
    "rank_sums",
]
