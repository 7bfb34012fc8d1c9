"""In one process: a training loop of the user's own, and mistakes in it that every number of ranks must report."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import Module
from syncbn.comm import SerialComm
from syncbn.nn import SGD, Dense, ReLU, Sequential, mean_squared_error, softmax_cross_entropy
from syncbn.train import DataOrder, broadcast_parameters, predict, shard, sum_gradients


def loop(model, optimizer, comm, x, y, epochs=1, global_batch=12):
    """Train as docs/training.md shows, and return the loss of every step."""
    losses = []
    for epoch in range(epochs):
        for batch in DataOrder(len(x), global_batch, seed=0).batches(epoch):
            own = batch[shard(len(batch), comm.rank, comm.size)]
            logits, backward = model(x[own])
            loss, dlogits = softmax_cross_entropy(logits, y[own], len(batch))
            backward(dlogits)
            losses.append(sum_gradients(model, comm, loss))
            optimizer.step()
            model.zero_grad()
    return losses


@pytest.fixture
def model(rng):
    return Sequential(Dense(6, 8, rng=rng), ReLU(), Dense(8, 3, rng=rng))


@pytest.fixture
def backward(model, data):
    """Return a function that runs forward and backward with a loss of this normalizer."""
    x, y = data

    def backward(normalizer=None):
        logits, backward = model(x)
        loss, dlogits = softmax_cross_entropy(logits, y, normalizer)
        backward(dlogits)
        return loss

    return backward


def test_the_loop_has_the_bits_of_the_trainer(build, data):
    trainer, other = build("bn"), build("bn")
    records = trainer.fit(*data, 2)
    losses = loop(other.model, other.optimizer, SerialComm(), *data, epochs=2)
    ours, theirs = trainer.model.state_dict(), other.model.state_dict()
    assert all(value.tobytes() == theirs[name].tobytes() for name, value in ours.items())
    sizes = [12, 12, 12, 12, 7]
    assert [record.train_loss for record in records] == pytest.approx(
        [np.average(losses[:5], weights=sizes), np.average(losses[5:], weights=sizes)], rel=1e-12
    )


def test_one_process_may_leave_the_normalizer_out(model, backward):
    broadcast_parameters(model, SerialComm())
    loss = backward()
    assert sum_gradients(model, SerialComm(), loss) == pytest.approx(loss, rel=1e-6)


def test_a_backward_adds_nothing_to_gradients_that_are_summed(model, backward):
    backward()
    sum_gradients(model, SerialComm())
    before = [parameter.grad.copy() for parameter in model.parameters()]
    with pytest.raises(RuntimeError, match=r"call model\.zero_grad\(\) after each step"):
        backward()
    for parameter, expected in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.grad, expected)
    model.zero_grad()
    backward()
    sum_gradients(model, SerialComm())


def test_gradients_are_summed_once(model, backward):
    backward()
    sum_gradients(model, SerialComm())
    with pytest.raises(RuntimeError, match="gradients are summed already"):
        sum_gradients(model, SerialComm())


def test_several_backwards_may_precede_the_sum(model, backward):
    backward(110)
    once = [parameter.grad.copy() for parameter in model.parameters()]
    backward(110)
    sum_gradients(model, SerialComm())
    for parameter, expected in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * expected)


def test_a_missing_backward(model):
    with pytest.raises(RuntimeError, match="no parameter has a gradient: call backward first"):
        sum_gradients(model, SerialComm())


def test_training_after_an_evaluation_without_train(model, backward):
    model.eval()
    backward()
    with pytest.raises(ValueError, match=r"evaluation mode: call model\.train\(\)"):
        sum_gradients(model, SerialComm())
    model.train()
    model[0].eval()  # a frozen layer
    sum_gradients(model, SerialComm())


def test_another_layer_in_the_model(model, backward, rng):
    backward()
    sum_gradients(model, SerialComm())
    model.zero_grad()
    model[2] = Dense(8, 3, rng=rng)
    backward()
    expected = model[2].weight.grad.copy()
    sum_gradients(model, SerialComm())
    np.testing.assert_array_equal(model[2].weight.grad, expected)
    assert model[2].weight.summed


@pytest.mark.parametrize(
    "call", [broadcast_parameters, sum_gradients, lambda model, _: predict(model, np.ones((2, 2)))]
)
def test_what_is_not_a_model(call):
    with pytest.raises(TypeError, match="model must be a syncbn module"):
        call({}, SerialComm())


def test_what_is_not_an_optimizer(model):
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, got list"):
        broadcast_parameters(model, SerialComm(), list(model.parameters()))


def test_regression_with_the_mean_squared_error(rng):
    x = rng.standard_normal((40, 3)).astype(np.float32)
    targets = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 3
    model = Dense(3, 1, rng=rng)
    optimizer = SGD(model.parameters(), lr=0.2)
    for _ in range(100):
        y, backward = model(x)
        loss, dy = mean_squared_error(y, targets)
        backward(dy)
        sum_gradients(model, SerialComm(), loss)
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose(model.weight.data, [[1, -2, 0.5]], atol=1e-3)


def test_predict(model, data):
    x = data[0]
    model.train()
    expected = model(x)[0]
    for batch_size in (1, 7, 256):
        np.testing.assert_allclose(predict(model, x, batch_size=batch_size), expected, rtol=1e-12, atol=1e-12)
    assert predict(model, x[:0]).shape == (0, 3)
    assert model.training
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        predict(model, x, batch_size=0)
    with pytest.raises(TypeError, match="masked array"):
        predict(model, np.ma.masked_array(x))


def test_predict_of_a_trainer_uses_the_running_statistics(build, data):
    trainer = build("bn")
    trainer.fit(*data, 1)
    before = trainer.model.state_dict()
    wrong = trainer.predict(data[0]).argmax(axis=1) != data[1]
    assert wrong.mean() == trainer.evaluate(*data).error
    assert all(np.array_equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_gradients_are_summed_in_the_dtype_that_the_parameters_have_now():
    model = Dense(2, 1)
    for dtype in (np.float32, np.float64):
        model.to(dtype)
        model.zero_grad()
        model.weight.add_grad(np.full((1, 2), 1 / 3, dtype))
        model.bias.add_grad(np.zeros(1, dtype))
        sum_gradients(model, SerialComm())
    assert model.weight.grad[0, 0] == 1 / 3


class Halves(Module):
    """Two layers side by side, of which the backward of the second one can be forgotten."""

    def __init__(self, rng, forgets):
        super().__init__()
        self.first = Dense(6, 3, rng=rng)
        self.second = Dense(6, 3, rng=rng)
        self.forgets = forgets

    def forward(self, x):
        (y, first), (z, second) = self.first(x), self.second(x)
        return y + z, lambda dy: first(dy) if self.forgets else first(dy) + second(dy)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_layer_whose_backward_is_forgotten(rng, data, fixed):
    model = Halves(rng, forgets=True)
    if fixed:
        model.second.eval()
    optimizer = SGD(model.first.parameters(), 0.1)
    if fixed:
        loop(model, optimizer, SerialComm(), *data)
        return
    with pytest.raises(RuntimeError, match=r"parameter 'second\.weight' has no gradient on any rank.*eval\(\)"):
        loop(model, optimizer, SerialComm(), *data)


def test_a_layer_that_is_replaced_after_the_optimizer_was_made(model, data, rng):
    optimizer = SGD(model.parameters(), 0.1)
    model[2] = Dense(8, 3, rng=rng)
    with pytest.warns(RuntimeWarning, match=r"has not changed parameter '2\.weight'.*replaced or added") as caught:
        loop(model, optimizer, SerialComm(), *data)
    assert len(caught) == 1


def test_a_layer_that_is_not_to_be_trained_is_in_evaluation_mode(model, data):
    model[2].eval()
    loop(model, SGD(model[0].parameters(), 0.1), SerialComm(), *data)


def test_a_loss_that_is_not_finite_warns_once(model, data):
    model[0].weight.data[:] = np.nan
    with pytest.warns(RuntimeWarning, match="training has diverged: the sum of the losses is nan") as caught:
        loop(model, SGD(model.parameters(), 0.1), SerialComm(), *data)
    assert len(caught) == 1
    assert caught[0].filename == __file__
