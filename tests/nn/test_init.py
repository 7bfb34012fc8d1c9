from __future__ import annotations

import math

import numpy as np
import pytest

from syncbn.nn import glorot_normal, glorot_uniform, he_normal, he_uniform

DENSE, KERNEL = (300, 200), (60, 40, 3, 5)
VARIANCE = {
    (he_normal, DENSE): 2 / 200,
    (he_normal, KERNEL): 2 / 600,
    (he_uniform, DENSE): 2 / 200,
    (he_uniform, KERNEL): 2 / 600,
    (glorot_normal, DENSE): 2 / 500,
    (glorot_normal, KERNEL): 2 / 1500,
    (glorot_uniform, DENSE): 2 / 500,
    (glorot_uniform, KERNEL): 2 / 1500,
}


@pytest.mark.parametrize(("init", "shape"), VARIANCE)
def test_moments_and_bounds(init, shape, rng):
    weights = init(shape, rng, np.float64)
    variance = VARIANCE[init, shape]
    assert weights.shape == shape
    assert weights.var() == pytest.approx(variance, rel=0.04)
    assert abs(weights.mean()) < 5 * math.sqrt(variance / weights.size)
    largest = abs(weights).max() / math.sqrt(variance)
    if "uniform" in init.__name__:
        assert 1.72 < largest < math.sqrt(3)
    else:
        assert 3.5 < largest < 6.5


@pytest.mark.parametrize("init", [he_normal, he_uniform, glorot_normal, glorot_uniform])
def test_both_dtypes_start_from_the_same_numbers(init):
    single, double = (init((3, 4), np.random.default_rng(5), dtype) for dtype in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("init", [he_normal, he_uniform, glorot_normal, glorot_uniform])
@pytest.mark.parametrize("shape", [(3,), (), (3, 0)])
def test_bad_shapes(init, shape, rng):
    with pytest.raises(ValueError, match="initial weights need a shape"):
        init(shape, rng)
