"""`syncbn.keras` on several ranks has the bits of one process, and `fit` the results of one process."""

from __future__ import annotations

import numpy as np
import pytest
from keras_cases import BACKEND, KERAS_WARNINGS, differentiate, keras, moving, normalize, problem, with_weights
from mpi4py import MPI

from syncbn import SyncMismatchError
from syncbn import functional as F
from syncbn.keras import BatchNormalization, distribute
from syncbn.train import shard

pytestmark = [pytest.mark.ranks, KERAS_WARNINGS]

KerasOwn = keras.layers.BatchNormalization


def shares(samples, comm):
    """Return the share of this rank, of 7 samples uneven, and one without samples of rank 0."""
    without = slice(0, 0) if comm.rank == 0 else shard(samples, comm.rank - 1, comm.size - 1)
    return [shard(samples, comm.rank, comm.size), *([without] if comm.size > 1 else [])]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_bits_of_one_process_and_the_results_of_keras(comm, axis, masked):
    x, dy, *weights = problem((7, 5, 4, 5), 5, offset=3.0)
    mask = np.random.default_rng(1).random(np.delete(x.shape, axis)) < 0.6 if masked else None
    options = {} if mask is None else {"mask": mask}
    y, _, backward = F.batch_norm(x, *weights, eps=1e-3, channel_axis=axis, **options)
    dx, *parameters = backward(dy)
    whole = with_weights(BatchNormalization(axis, momentum=0.5), x, *weights)
    normalize(whole, x, training=True, **options)
    own_layer = with_weights(KerasOwn(axis, momentum=0.5), x, *weights)
    keras_y, keras_dx, *_ = differentiate(own_layer, x, dy, training=True, **(options if axis == -1 else {}))
    for own in shares(len(x), comm):
        layer = with_weights(BatchNormalization(axis, momentum=0.5, comm=comm), x, *weights)
        own_options = {key: value[own] for key, value in options.items()}
        found = differentiate(layer, x[own], dy[own], training=True, **own_options)
        np.testing.assert_array_equal(found[0], y[own])
        np.testing.assert_array_equal(found[1], dx[own])
        np.testing.assert_array_equal(moving(layer), moving(whole))
        for share, total in zip(found[2:], parameters, strict=True):
            summed = share.astype(np.float64)
            comm.allreduce(summed)
            np.testing.assert_allclose(summed, total, rtol=1e-4, atol=1e-4)
        if axis == -1 or not masked:  # Keras applies a mask to the last axis
            np.testing.assert_allclose(found[0], keras_y[own], atol=1e-4)
            np.testing.assert_allclose(found[1], keras_dx[own], atol=1e-4)
            np.testing.assert_allclose(moving(layer), moving(own_layer), rtol=1e-4)


def test_the_control(comm):
    """Without synchronization, the statistics are those of this rank."""
    if comm.size == 1:
        pytest.skip("one rank has all samples")
    x = np.random.default_rng(comm.rank).standard_normal((4, 3)).astype(np.float32) + comm.rank
    local, shared = BatchNormalization(), BatchNormalization(synchronized=True)
    assert np.abs(normalize(local, x, training=True) - normalize(shared, x, training=True)).max() > 0.1
    np.testing.assert_allclose(normalize(local, x, training=True), normalize(KerasOwn(), x, training=True), atol=1e-5)


def test_communicators(comm):
    assert BatchNormalization().comm.size == 1
    assert BatchNormalization(synchronized=True).comm.size == comm.size
    assert BatchNormalization(comm=MPI.COMM_WORLD).comm.size == comm.size
    assert BatchNormalization(comm=comm).comm is comm
    pairs = comm.split(2)
    layer = BatchNormalization(comm=pairs)
    x = np.random.default_rng(0).standard_normal((2 * comm.size, 3)).astype(np.float32)
    first = comm.rank // 2 * 2
    expected, *_ = F.batch_norm(x[2 * first : 2 * (first + pairs.size)], eps=1e-3)
    start = 2 * (comm.rank - first)
    np.testing.assert_array_equal(
        normalize(layer, x[2 * comm.rank : 2 * comm.rank + 2], training=True), expected[start : start + 2]
    )
    pairs.free()


def test_inference_does_not_communicate(comm):
    layer = BatchNormalization(comm=comm)
    layer.build((None, 3))
    sent = comm.bytes_sent
    if comm.rank == 0:
        normalize(layer, np.ones((2, 3), np.float32))
        layer.trainable = False
        normalize(layer, np.ones((2, 3), np.float32), training=True)
    assert comm.bytes_sent == sent


def test_an_error_of_one_rank_reaches_all(comm):
    x, shape = np.ones((4, 5, 3), np.float32), (4, 5) if comm.rank else (4,)
    layer = BatchNormalization(comm=comm)
    text = "rank 0 had bad input: mask must have the axes" if comm.rank else "mask must have the axes"
    with pytest.raises(Exception, match=text):  # JAX raises a JaxRuntimeError
        normalize(layer, x, training=True, mask=np.ones(shape, bool))
    total = np.ones(1)
    comm.allreduce(total)
    assert total == comm.size, "the communicator is still usable"


# ---- fit


def train(kind, x, labels, batch, comm=None, **options):
    """Return the weights after training on the samples of this rank."""
    keras.utils.set_random_seed(0 if comm is None else comm.rank)
    layers = [keras.layers.Dense(6, activation="relu"), kind(**options), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    if comm is not None:
        distribute(model, comm)
    model.fit(x, labels, batch_size=batch, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


def test_fit_on_ranks_is_fit_in_one_process(comm):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((24, comm.size, 4)).astype(np.float32), rng.integers(0, 3, (24, comm.size))
    found = train(BatchNormalization, x[:, comm.rank], labels[:, comm.rank], 8, comm, synchronized=True)
    expected = train(KerasOwn, x.reshape(-1, 4), labels.ravel(), 8 * comm.size)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
        for other in comm.allgather(mine):
            np.testing.assert_array_equal(mine, other)


def test_fit_without_distribute_gives_each_rank_a_model_of_its_own(comm):
    if comm.size == 1:
        pytest.skip("one rank has one model")
    rng = np.random.default_rng(comm.rank)
    x, labels = rng.standard_normal((24, 4)).astype(np.float32), rng.integers(0, 3, 24)
    weights = train(BatchNormalization, x, labels, 8, synchronized=True)
    kernels = comm.allgather(weights[0])
    assert np.abs(kernels[0] - kernels[-1]).max() > 1e-3


def test_loss_scaling_skips_the_steps_of_all_ranks(comm):
    """In mixed_float16 a step is skipped if a gradient is not finite; here that of the last rank."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, dtype="mixed_float16")])
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 8.0), "mse", jit_compile=BACKEND == "jax"
    )
    distribute(model, comm)
    before = [weight.copy() for weight in model.get_weights()]  # JAX reuses the memory of weights in fit
    x = np.full((4, 4), np.inf if comm.rank == comm.size - 1 else 1.0, np.float32)
    model.fit(x, np.ones((4, 1)), verbose=0)
    for mine, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)
    model.fit(np.ones((4, 4)), np.full((4, 1), float(comm.rank)), verbose=0)
    assert not np.array_equal(model.get_weights()[0], before[0])
    for other in comm.allgather(model.get_weights()[0]):
        np.testing.assert_array_equal(model.get_weights()[0], other)


def test_distribute_finds_models_that_differ(comm):
    if comm.size == 1:
        pytest.skip("one rank has one model")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2 if comm.rank == comm.size - 1 else 3)])
    model.compile()
    text = rf"ranks 0 and {comm.size - 1} have different models .* float32 \(4, 3\) and float32 \(4, 2\)\. Build"
    with pytest.raises(SyncMismatchError, match=text):
        distribute(model, comm)


def test_a_variable_that_some_ranks_do_not_use(comm):
    """Its gradient there is 0, and all ranks have the average."""

    class Branches(keras.Model):
        def __init__(self):
            super().__init__()
            self.branches = [keras.layers.Dense(1, use_bias=False, kernel_initializer="ones") for _ in range(2)]

        def build(self, shape):
            for branch in self.branches:
                branch.build(shape)

        def call(self, x):
            return self.branches[min(comm.rank, 1)](x)

    model = Branches()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    distribute(model, comm)
    model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)  # each gradient is 2
    share = 2 / comm.size
    np.testing.assert_allclose(np.ravel(model.get_weights()), [1 - share, 1 - share * (comm.size - 1)], atol=1e-6)


def test_an_error_in_inference_is_raised_on_its_rank_alone(comm, monkeypatch):
    layer = BatchNormalization(comm=comm)
    layer.build((None, 3))

    def fail(*_, **__):
        raise ValueError("in inference")

    monkeypatch.setattr(keras.ops, "rsqrt", fail)
    if comm.rank == 0:
        for layer.trainable, training in ((True, False), (False, True)):
            with pytest.raises(ValueError, match="in inference"):
                normalize(layer, np.ones((2, 3), np.float32), training=training)
    total = np.ones(1)
    comm.allreduce(total)
    assert total == comm.size
