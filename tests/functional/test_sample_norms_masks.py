"""Group, instance and layer normalization with the statistics of selected elements."""

from __future__ import annotations

import copy

import numpy as np
import oracle
import pytest
from gradcheck import check_function
from hypothesis import given
from hypothesis import strategies as st

from syncbn import GroupNorm, InstanceNorm, LayerNorm
from syncbn import functional as F

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-13}
SHAPE = (3, 6, 4, 5)

by_channel = np.random.default_rng(0).random((3, 4, 5)) < 0.6
by_element = np.random.default_rng(1).random((3, 6, 4, 5)) < 0.6

CALLS = {
    "group_norm": (lambda x, w, b, mask: F.group_norm(x, 2, w, b, mask=mask), by_channel),
    "group_norm, few positions": (lambda x, w, b, mask: F.group_norm(x, 3, w, b, mask=mask), by_channel[:1, :, :1]),
    "instance_norm": (lambda x, w, b, mask: F.instance_norm(x, w, b, mask=mask), by_channel),
    "layer_norm": (lambda x, w, b, mask: F.layer_norm(x, SHAPE[1:], w, b, mask=mask), by_element),
    "layer_norm, last axis": (lambda x, w, b, mask: F.layer_norm(x, 5, w, b, mask=mask), np.arange(5) != 2),
}


def expected_of(name, x, dy, weight, bias, mask):
    """Return the result of the formula in extended precision."""
    if name.startswith("layer_norm"):
        axes = (1, 2, 3) if weight.ndim == 3 else (3,)
        found = oracle.normalize(x, dy, axes, weight, bias, 1e-5, mask)
        kept = tuple(range(4 - weight.ndim))
        return found._replace(dweight=found.dweight.sum(kept), dbias=found.dbias.sum(kept))
    groups = {"group_norm": 2, "group_norm, few positions": 3, "instance_norm": 6}[name]
    split = [a.reshape(3, groups, 6 // groups, 20) for a in (x, dy)]
    parameters = [a.reshape(1, groups, 6 // groups, 1) for a in (weight, bias)]
    selected = np.broadcast_to(mask, (3, 4, 5)).reshape(3, 1, 1, 20)
    found = oracle.normalize(*split, (2, 3), *parameters, 1e-5, selected)
    return found._replace(
        y=found.y.reshape(SHAPE),
        dx=found.dx.reshape(SHAPE),
        dweight=found.dweight.sum((0, 3)).ravel(),
        dbias=found.dbias.sum((0, 3)).ravel(),
    )


def parameter_shape(name):
    return {"layer_norm": SHAPE[1:], "layer_norm, last axis": (5,)}.get(name, (6,))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(CALLS)),
    st.sampled_from(list(TOLERANCE)),
    st.sampled_from([0.0, 100.0]),
    st.booleans(),
)
def test_the_formula_in_both_memory_orders(seed, name, dtype, offset, last):
    rng = np.random.default_rng(seed)
    call, mask = CALLS[name]
    x = (rng.standard_normal(SHAPE) + offset).astype(dtype)
    dy = rng.standard_normal(SHAPE).astype(dtype)
    weight, bias = rng.standard_normal((2, *parameter_shape(name))).astype(dtype)
    expected = expected_of(name, x, dy, weight, bias, mask)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, backward = call(x, weight, bias, mask)
    dx, dweight, dbias = backward(dy)
    tolerance = TOLERANCE[dtype] * (1 + offset if dtype == "float64" else 1)
    terms = np.abs(dy).max() * np.abs(weight).max() / np.sqrt(expected.var.min() + 1e-5)
    assert y.dtype == dx.dtype == x.dtype
    assert y.strides == dx.strides == x.strides
    oracle.assert_close(y, expected.y, tolerance, "y")
    oracle.assert_close(dx, expected.dx, 10 * tolerance, "dx", scale=terms)
    oracle.assert_close(dweight, expected.dweight, 20 * tolerance, "dweight", scale=terms + abs(expected.dweight).max())
    oracle.assert_close(dbias, expected.dbias, 20 * tolerance, "dbias", scale=terms + abs(expected.dbias).max())
    assert dweight.dtype == dbias.dtype == weight.dtype


@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_finite_differences(name, rng):
    call, mask = CALLS[name]
    x = rng.standard_normal(SHAPE) + 2
    weight, bias = rng.standard_normal((2, *parameter_shape(name)))
    check_function(lambda *a: call(*a, mask), x, weight, bias, rng=rng)
    check_function(lambda *a: call(*a, mask), x, None, bias, rng=rng)


@pytest.mark.parametrize("name", CALLS)
def test_a_mask_that_selects_everything_changes_nothing_and_another_one_does(name, rng):
    call, mask = CALLS[name]
    x, dy = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    y, backward = call(x, None, None, None)
    all_y, all_backward = call(x, None, None, np.True_)
    np.testing.assert_allclose(all_y, y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(all_backward(dy)[0], backward(dy)[0], rtol=0, atol=1e-5)
    assert np.abs(call(x, None, None, mask)[0] - y).max() > 1e-2


@pytest.mark.parametrize("name", CALLS)
def test_unselected_values_do_not_change_the_others(name, rng):
    call, mask = CALLS[name]
    x, dy = rng.standard_normal((2, *SHAPE))
    selected = np.broadcast_to(mask if name.startswith("layer") else np.expand_dims(mask, 1), SHAPE)
    other = np.where(selected, x, 1e6)
    one, two = call(x, None, None, mask), call(other, None, None, mask)
    np.testing.assert_array_equal(one[0][selected], two[0][selected])
    assert not np.allclose(one[0][~selected], two[0][~selected])
    hidden = np.where(selected, x, np.nan)
    y, _ = call(hidden, None, None, mask)
    np.testing.assert_array_equal(y[selected], one[0][selected])
    assert np.isnan(y[~selected]).all()
    direct = np.where(selected, 0, dy)  # 0 where selected, so that other elements receive the direct term alone
    dx = call(x, None, None, mask)[1](direct)[0]
    np.testing.assert_array_less(0, (dx * dy)[~selected])


def test_equal_selected_values_give_exactly_the_bias(rng):
    mask = np.arange(7) < 4
    x = np.where(mask, np.float32(7777.7), rng.standard_normal((2, 4, 7)).astype(np.float32))
    bias = np.arange(4, dtype=np.float32)
    for eps in (1e-5, 0.0):
        for y, backward in (
            F.group_norm(x, 2, None, bias, eps=eps, mask=mask),
            F.instance_norm(x, None, bias, eps=eps, mask=mask),
            F.layer_norm(x, 7, eps=eps, mask=mask),
        ):
            found = y[..., mask] - (bias[:, None] if y[0, 1, 0] else 0)
            np.testing.assert_array_equal(found, 0)
            assert np.isfinite(backward(x)[0]).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, mask: F.group_norm(x, 2, mask=mask), "mask selects no value of sample 1"),
        (lambda x, mask: F.instance_norm(x, mask=mask), "mask selects no value of sample 1"),
        (lambda x, mask: F.layer_norm(x, (4, 3), mask=mask[:, None]), "mask selects no value of row 1"),
        (lambda x, _mask: F.instance_norm(x, mask=np.array([True, False, False])), "mask selects 1 of sample 0"),
        (
            lambda x, mask: F.group_norm(x, 2, mask=mask[:, :2]),
            r"broadcastable to x without its channel axis, \(3, 3\)",
        ),
        (lambda x, mask: F.layer_norm(x, 3, mask=mask[:, :2]), r"broadcastable to x, \(3, 4, 3\), got shape"),
        (lambda x, mask: F.group_norm(x, 2, mask=mask.astype(int)), "mask must have dtype bool"),
        (lambda x, mask: F.group_norm(x, 2, mask=mask)[1], "mask selects no value"),
        (lambda x, _mask: F.group_norm(x, 2, mask=True)[1](x[:2]), "dy must have y's shape"),
        (lambda x, mask: F.group_norm(x, 3, mask=mask), "num_groups must divide the 4 channels"),
        (lambda x, _mask: F.layer_norm(x, 4, mask=True), r"x must end in normalized_shape \(4,\)"),
        (lambda x, mask: GroupNorm(1, 5)(x, mask), "x must have 5 channels"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text, rng):
    mask = np.ones((3, 3), bool)
    mask[1] = False
    with pytest.raises((ValueError, TypeError), match=text):
        call(rng.standard_normal((3, 4, 3)), mask)


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_arrays_of_no_values(shape):
    x = np.zeros(shape, np.float32)
    for y, backward in (
        F.group_norm(x, 2 if shape[1] else 1, mask=True) if shape[1] else F.instance_norm(x, mask=True),
        F.group_norm(x, 1, np.ones(shape[1]), mask=True) if shape[1] else F.instance_norm(x, mask=True),
    ):
        assert y.shape == backward(x)[0].shape == shape


def test_layers_pass_the_mask_and_check_their_parameters(rng):
    x, mask = rng.standard_normal((3, 4, 6)), np.arange(6) < 4
    for layer, expected in (
        (GroupNorm(2, 4), F.group_norm(x, 2, mask=mask)),
        (InstanceNorm(4, affine=True), F.instance_norm(x, mask=mask)),
        (LayerNorm(6), F.layer_norm(x, 6, mask=mask)),
    ):
        y, backward = layer(x, mask)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(backward(x), expected[1](x)[0])
        assert layer.weight.grad is not None
        assert copy.deepcopy(backward) is backward
        layer.load_state_dict(layer.state_dict())
        with pytest.raises(RuntimeError, match="have changed since the forward"):
            backward(x)


def test_running_statistics_are_averages_over_samples_with_the_count_of_each(rng):
    x, mask = rng.standard_normal((3, 2, 6)), np.arange(6) < np.array([[2], [3], [6]])
    layer = InstanceNorm(2, momentum=1.0, track_running_stats=True, dtype=np.float64)
    layer(x, mask)
    chosen = [sample[:, row] for sample, row in zip(x, mask, strict=True)]
    np.testing.assert_allclose(layer.running_mean, np.mean([a.mean(1) for a in chosen], axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, np.mean([a.var(1, ddof=1) for a in chosen], axis=0), rtol=1e-12)
    np.testing.assert_array_equal(layer.eval()(x, mask)[0], layer(x)[0])
