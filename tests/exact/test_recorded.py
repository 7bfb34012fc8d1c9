"""Every processor (x86-64 and 64-bit Arm) reproduces the recorded bits, and these keep the error bounds."""

from __future__ import annotations

import numpy as np
import pytest

from exact.bits import assert_same_bits
from exact.bounds import assert_results
from exact.recorded import DTYPES, REDUCTIONS, SHAPES, batch, recorded, results
from syncbn._core import kernels

each_case = pytest.mark.parametrize(
    ("shape", "dtype", "reduction"),
    [(shape, dtype, reduction) for shape in SHAPES for dtype in DTYPES for reduction in REDUCTIONS],
)


@pytest.mark.skipif(kernels.which == "reference", reason="the reference implementation rounds differently")
@each_case
def test_recorded_bits_are_reproduced(shape, dtype, reduction):
    assert_same_bits(results(batch(shape, dtype), reduction), recorded(shape, dtype, reduction))


@each_case
def test_recorded_results_keep_the_error_bounds(shape, dtype, reduction):
    assert_results(recorded(shape, dtype, reduction), batch(shape, dtype))


def test_a_recorded_result_with_an_error_exceeds_the_bounds():
    """The control."""
    stored = recorded(SHAPES[0], "float32", "exact")
    stored["dx"] *= np.float32(1 + 1e-5)
    with pytest.raises(AssertionError, match="dx"):
        assert_results(stored, batch(SHAPES[0], "float32"))
