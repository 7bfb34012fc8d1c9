"""`syncbn.jax.batch_norm` has the results of `functional.batch_norm`, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import functional as F

jax = pytest.importorskip("jax", reason="pip install jax")

import jax.numpy as jnp  # noqa: E402

from syncbn.jax import batch_norm  # noqa: E402

SHAPE = (6, 5, 4, 3)


def problem(shape=SHAPE, dtype=np.float32, channels=5):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) * 3 + 1).astype(dtype)
    return x, dy, *rng.standard_normal((2, channels)).astype(dtype)


def gradients(x, dy, *parameters, jit=True, **options):
    """Return y, mean, var and the gradients of Σ y·dy."""

    def loss(x, *parameters):
        y, mean, var = batch_norm(x, *parameters, **options)
        return jnp.sum(y * dy) + 1e3 * jnp.sum(mean * var), (y, mean, var)  # nothing flows through mean and var

    function = jax.grad(loss, range(1 + len(parameters)), has_aux=True)
    found, results = (jax.jit(function) if jit else function)(x, *parameters)
    return [np.asarray(array) for array in (*results, *found)]


def assert_results(found, x, dy, *parameters, **options):
    y, moments, backward = F.batch_norm(x, *parameters, **options)
    dx, *expected = backward(dy)
    np.testing.assert_array_equal(found[0], y)
    np.testing.assert_allclose(found[1], moments.mean, rtol=1e-6)
    np.testing.assert_allclose(found[2], moments.var, rtol=1e-6)
    np.testing.assert_array_equal(found[3], dx)
    for gradient, other in zip(found[4:], [other for other in expected if other is not None], strict=True):
        np.testing.assert_array_equal(gradient, other)
        assert gradient.dtype == x.dtype


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(
    ("shape", "options"),
    [(SHAPE, {}), ((7, 5), {"eps": 0.1}), ((6, 4, 3, 5), {"channel_axis": -1}), ((2, 5, 3, 2, 2), {})],
)
def test_forward_and_backward(jit, shape, options):
    arguments = problem(shape)
    assert_results(gradients(*arguments, jit=jit, **options), *arguments, **options)


def test_without_parameters():
    x, dy, _, bias = problem()
    assert_results(gradients(x, dy), x, dy)
    for name in ("weight", "bias"):
        loss = lambda value, name=name: jnp.sum(batch_norm(jnp.asarray(x), **{name: value})[0] * dy)  # noqa: E731
        _, _, backward = F.batch_norm(x, **{name: bias})
        expected = backward(dy)[1 if name == "weight" else 2]
        np.testing.assert_array_equal(jax.grad(loss)(jnp.asarray(bias)), expected)


@pytest.mark.parametrize("axis", [1, -1])
def test_a_mask(axis):
    arguments = problem((6, 5, 4, 5))
    mask = np.random.default_rng(1).random(np.delete((6, 5, 4, 5), axis)) < 0.6
    assert_results(gradients(*arguments, channel_axis=axis, mask=mask), *arguments, channel_axis=axis, mask=mask)


def test_float64():
    with jax.enable_x64(True):
        arguments = problem(dtype=np.float64)
        found = gradients(*arguments)
        assert found[1].dtype == found[2].dtype == np.float64
        assert_results(found, *arguments)
        np.testing.assert_array_equal(found[2], F.batch_norm(arguments[0])[1].var)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    x, dy, weight, bias = problem()
    half = jnp.asarray(x, dtype)
    y, *_, dx, dweight, _ = gradients(half, jnp.asarray(dy, dtype), weight, bias)
    assert y.dtype == dx.dtype == dtype
    assert dweight.dtype == np.float32
    expected, _, backward = F.batch_norm(np.asarray(half, np.float32), weight, bias)
    np.testing.assert_array_equal(y, jnp.asarray(expected).astype(dtype))
    np.testing.assert_array_equal(
        dx, jnp.asarray(backward(np.asarray(jnp.asarray(dy, dtype), np.float32))[0]).astype(dtype)
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_parameters_in_half_precision(dtype):
    x, dy, *parameters = problem()
    half = [jnp.asarray(each, dtype) for each in parameters]
    *found, dweight, dbias = gradients(x, dy, *half)
    *expected, dweight_32, dbias_32 = gradients(x, dy, *(each.astype(jnp.float32) for each in half))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(dweight, dweight_32.astype(dtype))
    np.testing.assert_array_equal(dbias, dbias_32.astype(dtype))


def test_scan():
    """The same call several times in one compiled loop, each with its own backward."""
    x, dy, weight, bias = problem()

    def loss(x):
        y, _ = jax.lax.scan(lambda y, _: (batch_norm(y, weight, bias)[0] ** 2, None), x, None, length=3)
        return jnp.sum(y * dy)

    found = jax.jit(jax.grad(loss))(x)
    backwards, y = [], x
    for _ in range(3):
        y, _, backward = F.batch_norm(y, weight, bias)
        backwards.append((y, backward))
        y = y**2
    dx = dy
    for y, backward in reversed(backwards):
        dx, _, _ = backward(dx * (2 * y))
    np.testing.assert_allclose(found, dx, atol=1e-5 * np.abs(dx).max())


def test_the_float32_mean_of_large_values_does_not_spoil_the_backward():
    """The moments of the forward reach the backward in float64, which JAX does not have by default."""
    x, dy, weight, bias = problem()
    x = (x + 1e5).astype(np.float32)
    assert_results(gradients(x, dy, weight, bias), x, dy, weight, bias)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: batch_norm(x, jnp.ones(3)), ValueError, r"weight must have shape \(5,\), got \(3,\)"),
        (lambda x: batch_norm(x, bias=jnp.ones(3)), ValueError, r"bias must have shape"),
        (lambda x: batch_norm(x[0, 0, 0]), ValueError, r"2 or more axes"),
        (lambda x: batch_norm(x, channel_axis=9), ValueError, r"channel_axis"),
        (lambda x: batch_norm(x, eps=-1), ValueError, r"eps must be"),
        (lambda x: batch_norm(x.astype(int)), TypeError, r"int32"),
        (lambda x: batch_norm(x, comm="world"), TypeError, r"comm must be"),
        (lambda x: jax.vmap(batch_norm)(x), ValueError, r"vmap"),
    ],
)
@pytest.mark.parametrize("jit", [True, False])
def test_errors_when_the_call_is_traced(call, error, text, jit):
    pytest.importorskip("mpi4py")
    with pytest.raises(error, match=text):
        (jax.jit(call) if jit else call)(jnp.asarray(problem()[0]))


def test_an_error_of_the_call():
    with pytest.raises(jax.errors.JaxRuntimeError, match="needs more than 1 value per channel"):
        jax.block_until_ready(batch_norm(jnp.ones((1, 3))))
