"""On ranks: a training loop of the user's own, and an error for each part of it that is forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from own_loop import Loop, N, several

from syncbn import BatchNorm, Module, MPIComm, Parameter, SerialComm, SyncMismatchError
from syncbn.comm.errors import is_repeated
from syncbn.comm.protocol import HANDSHAKE_BYTES
from syncbn.nn import SGD, Dense, Dropout, Sequential
from syncbn.train import (
    FlatGradients,
    ParameterMismatchError,
    Trainer,
    broadcast_parameters,
    check_parameters,
    evaluate,
    sum_gradients,
)

pytestmark = pytest.mark.ranks


def test_the_loop_is_training_with_the_whole_batch(comm, problem, loop):
    loop.broadcast()
    alone = Loop(SerialComm(), problem, seed=0)
    losses = [loop.step() for _ in range(5)]
    np.testing.assert_allclose(losses, [alone.step() for _ in range(5)], rtol=1e-9)
    assert losses[-1] < losses[0]
    expected = alone.model.state_dict()
    for name, value in loop.model.state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    check_parameters(loop.model, comm)


def test_gradients_and_loss_are_one_message(comm, loop):
    loop.broadcast()
    sent = []
    for _ in range(5):
        loss = loop.backward()
        before = comm.bytes_sent
        sum_gradients(loop.model, comm, loss)
        sent.append(comm.bytes_sent - before)
        loop.optimizer.step()
        loop.model.zero_grad()
    values = sum(parameter.data.size for parameter in loop.model.parameters())
    assert sent[2] == sent[4] == HANDSHAKE_BYTES + 8 * (values + 4)
    assert comm.size == 1 or min(sent[0], sent[1], sent[3]) > sent[2]  # calls 1, 2, 4 also compare the parameters


def test_forgotten_broadcast(comm, loop):
    several(comm)
    loop.backward()
    with pytest.raises(ParameterMismatchError, match=r"first that differs is '0\.weight'.*train\.broadcast_parameters"):
        sum_gradients(loop.model, comm)


def test_forgotten_sum_of_gradients(comm, loop):
    several(comm)
    loop.broadcast()
    before = loop.model.state_dict()
    loop.backward()
    with pytest.raises(RuntimeError, match=r"train\.sum_gradients\(model, comm\) before optimizer\.step"):
        loop.optimizer.step()
    for name, parameter in loop.model.named_parameters():
        np.testing.assert_array_equal(parameter.data, before[name])
    for parameter in loop.model.parameters():
        parameter.grad = parameter.grad * 0.5  # as in clipping: still a gradient of this rank
    with pytest.raises(RuntimeError, match="sum_gradients"):
        loop.optimizer.step()


def test_gradients_that_are_changed_after_the_sum_are_still_summed(comm, loop):
    loop.broadcast()
    loop.backward()
    sum_gradients(loop.model, comm)
    for parameter in loop.model.parameters():
        parameter.grad = parameter.grad * 0.5
    loop.optimizer.step()
    check_parameters(loop.model, comm)


def test_a_program_that_sums_itself(comm, loop):
    loop.broadcast()
    loop.backward()
    for parameter in loop.model.parameters():
        comm.allreduce(parameter.grad)
        parameter.replicated = False
    loop.optimizer.step()
    check_parameters(loop.model, comm)


class Shift(Module):
    """A layer whose width is that of its parameter."""

    def __init__(self):
        super().__init__()
        self.shift = Parameter(np.zeros(5))

    def forward(self, x):
        return x + self.shift.data, lambda dy: self.shift.add_grad(dy.sum(axis=0)) or dy


def test_a_parameter_that_is_pruned_between_steps(comm):
    model = Shift()
    broadcast_parameters(model, comm)
    for width in (5, 3):
        model.shift.data = np.zeros(width)
        _, backward = model(np.ones((2, width)))
        backward(np.ones((2, width)))
        sum_gradients(model, comm)
        np.testing.assert_array_equal(model.shift.grad, np.full(width, 2.0 * comm.size))
        model.zero_grad()


@pytest.mark.parametrize("function", [broadcast_parameters, sum_gradients])
def test_a_misspelt_keyword_on_one_rank_reaches_all(comm, loop, function):
    several(comm)
    loop.broadcast()
    loop.backward()
    keywords = {"optimiser": loop.optimizer} if comm.rank == comm.size - 1 else {}
    error = TypeError if keywords else SyncMismatchError
    with pytest.raises(error, match="unexpected keyword argument 'optimiser'"):
        function(loop.model, comm, **keywords)
    comm.barrier()


def test_training_in_which_every_part_is_forgotten(comm, loop):
    several(comm)
    loop.backward(None)
    with pytest.raises(RuntimeError, match=r"would drift apart: call train\.sum_gradients"):
        loop.optimizer.step()


def test_training_without_synchronized_layers_in_which_every_part_is_forgotten(comm, loop):
    several(comm)
    loop.model[1] = BatchNorm(5, dtype=np.float64)
    loop.optimizer = SGD(loop.model.parameters(), 0.1)
    loop.backward(None)
    loop.optimizer.step()
    with pytest.raises(ParameterMismatchError, match="broadcast_parameters, sum gradients by"):
        evaluate(loop.model, loop.x, loop.y, comm)


def test_only_rank_0_prints_an_error_that_all_ranks_raise(comm, loop):
    several(comm)
    loop.backward(None)
    with pytest.raises(ValueError, match="divided their loss") as caught:
        sum_gradients(loop.model, comm)
    assert is_repeated(caught.value) == (comm.rank > 0)
    loop.model.zero_grad()
    with pytest.raises(ParameterMismatchError) as caught:
        check_parameters(loop.model, comm)
    assert is_repeated(caught.value) == (comm.rank > 0)


def test_one_rank_may_evaluate(comm, loop):
    loop.broadcast()
    loop.step()
    if comm.rank == 0:
        alone = evaluate(loop.model, loop.x, loop.y, SerialComm())
    loop.step()
    together = evaluate(loop.model, loop.x, loop.y, comm)
    assert comm.rank or (alone.samples == together.samples == N and alone.loss > together.loss)


@pytest.mark.parametrize("mistake", ["model", "evaluation mode", "gradient", "size"])
def test_a_mistake_of_one_rank_reaches_all(comm, problem, mistake):
    several(comm)
    with MPIComm(timeout=10) as own:
        loop = Loop(own, problem).broadcast()
        loop.backward()
        culprit = own.rank == own.size - 1
        model = loop.model
        if culprit and mistake == "model":
            model = None
        if culprit and mistake == "evaluation mode":
            model.eval()
        if culprit and mistake == "gradient":
            model.zero_grad()
        if culprit and mistake == "size":
            model = Dense(6, 5, dtype=np.float64)
            model.weight.grad, model.bias.grad = np.zeros((5, 6)), np.zeros(5)
        error = (TypeError, ValueError, RuntimeError) if culprit else SyncMismatchError
        with pytest.raises(SyncMismatchError if mistake == "size" else error):
            sum_gradients(model, own)


def test_dropout_differs_between_ranks_and_is_reproducible(comm):
    masks = []
    for _ in range(2):
        layer = Dropout(0.5, rng=np.random.default_rng([9, comm.rank]))
        broadcast_parameters(Sequential(layer), comm)
        masks.append(comm.allgather(layer(np.ones((4, 16)))[0].astype(bool).tobytes()))
    assert masks[0] == masks[1]
    assert len(set(masks[0])) == comm.size


def test_flat_gradients_of_other_sizes(comm):
    """Without a handshake the sums would be garbage, or the ranks would wait for ever."""
    several(comm)
    with MPIComm(timeout=10) as own:
        layer = Dense(3, 2 + (own.rank == 0))
        flat = FlatGradients(layer.parameters())
        flat.take(1.0)
        with pytest.raises(SyncMismatchError, match="sum of gradients"):
            flat.add_over_ranks(own)
        assert not layer.weight.summed


def test_parameters_of_a_trainer_are_not_updated_with_gradients_of_one_rank(comm, problem):
    several(comm)
    model = Sequential(Dense(6, 3, dtype=np.float64), BatchNorm(3, dtype=np.float64))
    optimizer = SGD(model.parameters(), 0.1)
    Trainer(model, optimizer, comm, batch_per_rank=4, drop_last=True).fit(*problem, 1)
    model.zero_grad()
    y, backward = model(problem[0])
    backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="sum_gradients"):
        optimizer.step()
