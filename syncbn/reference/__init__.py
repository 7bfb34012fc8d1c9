"""The readable twin of every compiled kernel: same name, same signature, same results, in NumPy.

It is the oracle of the tests and the place to read what a kernel computes. ``SYNCBN_KERNELS=reference``
in the environment runs the whole package on it.

Axes are in the names: n samples, c channels, s values of a row, r rows, d features. ncs is channels-first
memory, nsc channels-last. Arrays ending in ``_nc`` of means and factors have 1 or N rows. A mask of shape
(0, 0) selects everything. The comment after a parameter list separates inputs from outputs; ``threads`` is for the
compiled kernels alone.
"""

from __future__ import annotations

from syncbn.reference.batch import batch_backward, batch_forward, batch_inference
from syncbn.reference.columns import (
    gradient_sums_columns,
    largest_gradients_columns,
    moment_ranges_columns,
    moment_sums_columns,
)
from syncbn.reference.exact import (
    gradient_sums,
    largest_gradients,
    moment_ranges,
    moment_sums,
    moments_from_sums,
    totals_from_sums,
)
from syncbn.reference.features import feature_backward, feature_forward
from syncbn.reference.float64 import moment_sums_float64, moments_from_sums_float64
from syncbn.reference.gradients import input_gradient_ncs, input_gradient_nsc, relu_gradients
from syncbn.reference.groups import group_backward, group_forward
from syncbn.reference.normalize import normalize_ncs, normalize_nsc
from syncbn.reference.rows import gradient_rows_ncs, gradient_rows_nsc, moment_rows_ncs, moment_rows_nsc

__all__ = [
    "batch_backward",
    "batch_forward",
    "batch_inference",
    "feature_backward",
    "feature_forward",
    "gradient_rows_ncs",
    "gradient_rows_nsc",
    "gradient_sums",
    "gradient_sums_columns",
    "group_backward",
    "group_forward",
    "input_gradient_ncs",
    "input_gradient_nsc",
    "largest_gradients",
    "largest_gradients_columns",
    "moment_ranges",
    "moment_ranges_columns",
    "moment_rows_ncs",
    "moment_rows_nsc",
    "moment_sums",
    "moment_sums_columns",
    "moment_sums_float64",
    "moments_from_sums",
    "moments_from_sums_float64",
    "normalize_ncs",
    "normalize_nsc",
    "relu_gradients",
    "totals_from_sums",
]
