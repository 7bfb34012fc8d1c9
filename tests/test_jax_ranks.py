"""`syncbn.jax.batch_norm` on several ranks has the bits of one process."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from syncbn import functional as F

jax = pytest.importorskip("jax", reason="pip install jax")

import jax.numpy as jnp  # noqa: E402

from syncbn.jax import batch_norm  # noqa: E402
from syncbn.train import shard  # noqa: E402

pytestmark = pytest.mark.ranks


def shares(samples, comm):
    """Return the share of this rank, and one without rank 0."""
    without = slice(0, 0) if comm.rank == 0 else shard(samples, comm.rank - 1, comm.size - 1)
    return [shard(samples, comm.rank, comm.size), *([without] if comm.size > 1 else [])]


@pytest.mark.parametrize("of", ["syncbn", "mpi4py"])
def test_the_bits_of_one_process(comm, of):
    group = comm if of == "syncbn" else MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, 7, 5, 4)) + 100).astype(np.float32)
    weight, bias = rng.standard_normal((2, 5)).astype(np.float32)
    y, moments, backward = F.batch_norm(x, weight, bias)
    dx, dweight, dbias = backward(dy)
    for own in shares(len(x), comm):

        @jax.jit
        def loss(x, weight, bias, dy):
            y, mean, var = batch_norm(x, weight, bias, comm=group)
            z, _, _ = batch_norm(2 * y, comm=group)  # a second call of the same shape
            return jnp.sum(y * dy) + 0 * jnp.sum(z), (y, mean, var)

        found, (part, mean, var) = jax.grad(loss, (0, 1, 2), has_aux=True)(x[own], weight, bias, dy[own])
        np.testing.assert_array_equal(part, y[own])
        np.testing.assert_array_equal(mean, moments.mean.astype(np.float32))
        np.testing.assert_array_equal(var, moments.var.astype(np.float32))
        np.testing.assert_array_equal(found[0], dx[own])
        for share, total in zip(found[1:], (dweight, dbias), strict=True):
            whole = np.array(share, np.float64)
            comm.allreduce(whole)
            np.testing.assert_allclose(whole, total, rtol=1e-5)


def test_the_control(comm):
    """Without the communicator, the statistics are those of this rank."""
    if comm.size == 1:
        pytest.skip("one rank has all samples")
    x = np.random.default_rng(comm.rank).standard_normal((4, 3)).astype(np.float32) + comm.rank
    assert np.abs(np.asarray(batch_norm(x)[0]) - np.asarray(batch_norm(x, comm=comm)[0])).max() > 0.1


def test_an_error_of_one_rank_when_the_call_is_traced_reaches_all(comm):
    x = jnp.ones((4, 3 if comm.rank == 0 else 5))
    if comm.size == 1:
        pytest.skip("one rank has nobody to disagree with")
    if comm.rank:
        with pytest.raises(ValueError, match=r"weight must have shape \(5,\), got \(3,\)"):
            batch_norm(x, jnp.ones(3), comm=comm)
    else:
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"rank 1 had bad input: weight must have shape"):
            jax.block_until_ready(batch_norm(x, jnp.ones(3), comm=comm))
    total = np.ones(1)
    comm.allreduce(total)
    assert total == comm.size, "the communicator is still usable"


def test_too_few_values_are_an_error_on_all_ranks(comm):
    with pytest.raises(jax.errors.JaxRuntimeError, match="needs more than 1 value per channel over all ranks, got 1"):
        jax.block_until_ready(batch_norm(jnp.ones((int(comm.rank == 0), 3)), comm=comm))
