from __future__ import annotations

import numpy as np
import pytest

from syncbn import Parameter
from syncbn.comm import SerialComm
from syncbn.train import FlatGradients


class Doubling(SerialComm):
    """As if another rank had the same numbers; keeps what was sent."""

    def __init__(self):
        super().__init__()
        self._protocol.sum = self.double

    def double(self, array):
        self.sent = array.copy()
        array *= 2


def parameters(rng, *dtypes):
    shapes = [(3, 2), (4,), (), (2, 1, 2)]
    made = [Parameter(np.zeros(shape, dtype)) for shape, dtype in zip(shapes, dtypes, strict=False)]
    for parameter in made:
        parameter.grad = rng.standard_normal(parameter.data.shape).astype(parameter.data.dtype)
    return made


def test_gradients_and_loss_are_added_in_one_message(rng):
    made = parameters(rng, *[np.float32] * 4)
    before = [parameter.grad.copy() for parameter in made]
    flat, comm = FlatGradients(made), Doubling()
    flat.take(1.5)
    assert flat.add_over_ranks(comm) == 3.0
    assert comm.sent.dtype == np.float32
    np.testing.assert_array_equal(comm.sent, [*np.concatenate([grad.ravel() for grad in before]), 1.5])
    for parameter, grad in zip(made, before, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * grad, strict=True)


def test_a_missing_gradient_is_zero_though_the_last_step_had_one(rng):
    made = parameters(rng, np.float64, np.float64)
    flat = FlatGradients(made)
    flat.take(0.0)
    flat.add_over_ranks(Doubling())
    kept = made[1].grad.copy()
    made[0].grad = None
    flat.take(0.0)
    flat.add_over_ranks(Doubling())
    np.testing.assert_array_equal(made[0].grad, np.zeros((3, 2)), strict=True)
    np.testing.assert_array_equal(made[1].grad, 2 * kept)


@pytest.mark.parametrize(
    ("dtypes", "chosen", "expected"),
    [
        ([np.float32, np.float32], None, np.float32),
        ([np.float32, np.float64], None, np.float64),
        ([np.float16, np.float16], None, np.float32),
        ([np.float32, np.float32], np.float64, np.float64),
        ([np.float64, np.float64], "float32", np.float32),
    ],
)
def test_dtypes(rng, dtypes, chosen, expected):
    made = parameters(rng, *dtypes)
    flat = FlatGradients(made, chosen)
    flat.take(0.0)
    flat.add_over_ranks(SerialComm())
    assert flat.buffer.dtype == expected
    assert [parameter.grad.dtype for parameter in made] == dtypes


def test_the_number_of_scalars_is_checked(rng):
    flat = FlatGradients(parameters(rng, np.float32), scalars=2)
    for scalars in ((), (0.5,), (1, 2, 3)):
        with pytest.raises(TypeError, match=rf"take expects 2 scalars, got {len(scalars)}"):
            flat.take(*scalars)


def test_other_dtypes_are_refused(rng):
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        FlatGradients(parameters(rng, np.float32), np.int64)
