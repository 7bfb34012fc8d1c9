"""On ranks: a training loop of the user's own, and an error for each part of it that is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, Module, MPIComm, SerialComm, SyncBatchNorm, SyncMismatchError
from syncbn.comm.errors import is_repeated
from syncbn.comm.protocol import HANDSHAKE_BYTES
from syncbn.nn import SGD, Adam, Dense, Dropout, ReLU, Sequential, mean_squared_error, softmax_cross_entropy
from syncbn.train import (
    FlatGradients,
    ParameterMismatchError,
    Trainer,
    broadcast_parameters,
    check_parameters,
    evaluate,
    shard,
    sum_gradients,
)

pytestmark = pytest.mark.ranks

N = 21


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, 6))
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


class Loop:
    """A model of each rank's own weights, and the parts of a training step on the whole problem."""

    def __init__(self, comm, problem, optimizer=SGD, seed=None):
        rng = np.random.default_rng(comm.rank if seed is None else seed)
        self.comm = comm
        self.x, self.y = problem
        self.model = Sequential(
            Dense(6, 5, rng=rng, dtype=np.float64, bias=False),
            SyncBatchNorm(5, comm=comm, dtype=np.float64),
            ReLU(),
            Dense(5, 3, rng=rng, dtype=np.float64),
        )
        self.optimizer = optimizer(self.model.parameters(), 0.1)
        self.own = shard(N, comm.rank, comm.size)

    def broadcast(self):
        broadcast_parameters(self.model, self.comm)
        return self

    def backward(self, normalizer=N):
        logits, backward = self.model(self.x[self.own])
        loss, dlogits = softmax_cross_entropy(logits, self.y[self.own], normalizer)
        backward(dlogits)
        return loss

    def step(self, normalizer=N):
        loss = sum_gradients(self.model, self.comm, self.backward(normalizer))
        self.optimizer.step()
        self.model.zero_grad()
        return loss


@pytest.fixture
def loop(comm, problem):
    return Loop(comm, problem)


def several(comm):
    if comm.size == 1:
        pytest.skip("needs another rank")


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
    for _ in range(4):
        loss = loop.backward()
        before = comm.bytes_sent
        sum_gradients(loop.model, comm, loss)
        sent.append(comm.bytes_sent - before)
        loop.optimizer.step()
        loop.model.zero_grad()
    values = sum(parameter.data.size for parameter in loop.model.parameters())
    assert sent[2] == sent[3] == HANDSHAKE_BYTES + 8 * (values + 4)
    assert comm.size == 1 or sent[0] > sent[2]  # the first calls also compare the parameters


def test_forgotten_broadcast(comm, loop):
    several(comm)
    loop.backward()
    with pytest.raises(ParameterMismatchError, match=r"first that differs is '0\.weight'.*train\.broadcast_parameters"):
        sum_gradients(loop.model, comm)


@pytest.mark.parametrize("normalizer", ["none", "own"])
def test_forgotten_size_of_the_global_batch(comm, loop, normalizer):
    several(comm)
    loop.broadcast()
    loss = loop.backward(None if normalizer == "none" else loop.own.stop - loop.own.start)
    with pytest.raises(ValueError, match=rf"{comm.size} of {comm.size} ranks divided their loss by their own number"):
        sum_gradients(loop.model, comm, loss)
    loop.model.zero_grad()
    loop.step()


@pytest.mark.parametrize("mistake", ["constant", "large", "by rank", "own and one"])
def test_wrong_size_of_the_global_batch(comm, loop, mistake):
    loop.broadcast()
    loop.step()
    normalizer, divisors = {
        "constant": (N + 3, "24"),
        "large": (1e6, r"1e\+06"),
        "by rank": (N + 4 + 5 * comm.rank, ", ".join(["25", "30", "35"][: comm.size])),
        "own and one": (loop.own.stop - loop.own.start + 1, {1: "22", 2: "12, 11", 3: "8", 4: "7, 6"}.get(comm.size)),
    }[mistake]
    loss = loop.backward(normalizer)
    text = rf"the loss was divided by {divisors}(, \.\.\.)?, but the ranks have {N} samples in this step\. Pass"
    with pytest.raises(ValueError, match=text) as caught:
        sum_gradients(loop.model, comm, loss)
    assert is_repeated(caught.value) == (comm.rank > 0)
    loop.model.zero_grad()
    loop.step()


def test_a_forgotten_share_is_named_as_a_cause(comm, loop):
    several(comm)
    loop.broadcast()
    loop.own = slice(0, N)
    with pytest.raises(ValueError, match=r"by their own number.*only the own share.*shard\(len\(batch\), comm\.rank"):
        loop.step()


def test_several_losses_in_one_step(comm, loop):
    """Two outputs; parts of a batch, one after the other; and sums over more values than samples."""
    loop.broadcast()
    y, backward = loop.model(loop.x[loop.own])
    (_, first), (_, second) = softmax_cross_entropy(y, loop.y[loop.own], N), mean_squared_error(y, 0 * y, N)
    backward(second)
    backward(first)
    sum_gradients(loop.model, comm)
    loop.optimizer.zero_grad()
    for start in (0, 12):
        batch = slice(start, min(start + 12, N))
        part = shard(batch.stop - batch.start, comm.rank, comm.size)
        loop.own = slice(start + part.start, start + part.stop)
        loop.backward()
    sum_gradients(loop.model, comm)
    loop.model.zero_grad()
    logits, backward = loop.model(loop.x[:12])
    _, dlogits = softmax_cross_entropy(np.repeat(logits, 3, axis=0), np.repeat(loop.y[:12], 3), 12 * comm.size)
    backward(dlogits.reshape(12, 3, 3).sum(axis=1))
    sum_gradients(loop.model, comm)


def test_gradients_of_losses_may_be_scaled_on_some_ranks(comm, loop):
    loop.broadcast()
    logits, backward = loop.model(loop.x[loop.own])
    _, dlogits = softmax_cross_entropy(logits, loop.y[loop.own], N)
    backward(dlogits * 0.5 if comm.rank else dlogits)
    sum_gradients(loop.model, comm)
    loop.model.zero_grad()
    loop.step()


@pytest.mark.parametrize("owner", ["model", "optimizer"])
def test_a_step_that_is_given_up_is_not_counted(loop, owner):
    loop.broadcast()
    logits, backward = loop.model(loop.x[loop.own])
    _, dlogits = softmax_cross_entropy(logits, loop.y[loop.own], N + 3)
    backward(dlogits)
    getattr(loop, owner).zero_grad()
    loop.step()


def test_other_normalizers_are_taken(comm, loop):
    """The sum over samples; a mean of which only one rank has samples; and a mean that is not trained with."""
    loop.broadcast()
    loop.step(1)
    loop.own = slice(0, N if comm.rank == 0 else 0)
    loop.step(None)
    loop.own = shard(N, comm.rank, comm.size)
    logits, _ = loop.model(loop.x[loop.own])
    softmax_cross_entropy(logits, loop.y[loop.own])
    loop.step()


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


def test_a_state_that_one_rank_loads_alone(comm, loop):
    several(comm)
    loop.broadcast()
    for _ in range(3):
        loop.step()
    if comm.rank == 0:
        loop.model.load_state_dict({name: value + 1 for name, value in loop.model.state_dict().items()})
    loop.backward()
    with pytest.raises(ParameterMismatchError, match="load a state on every rank"):
        sum_gradients(loop.model, comm)


def test_a_state_that_is_broadcast_after_rank_0_has_loaded_it(comm, problem):
    """Broadcast the optimizer too, whose averages rank 0 has loaded."""
    first = Loop(comm, problem, Adam).broadcast()
    for _ in range(3):
        first.step()
    resumed = Loop(comm, problem, Adam)
    if comm.rank == 0:
        resumed.model.load_state_dict(first.model.state_dict())
        resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    broadcast_parameters(resumed.model, comm, resumed.optimizer)
    assert [first.step() for _ in range(3)] == [resumed.step() for _ in range(3)]
    expected = first.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_optimizers_that_differ(comm, problem):
    several(comm)
    loop = Loop(comm, problem)
    loop.optimizer.lr = 0.1 + comm.rank
    loop.broadcast()
    loop.step()
    loop.backward()
    with pytest.raises(ParameterMismatchError):
        sum_gradients(loop.model, comm)


def test_evaluation_on_all_ranks_detects_parameters_that_differ(comm, loop):
    several(comm)
    loop.broadcast()
    assert evaluate(loop.model, loop.x, loop.y).samples == N
    loop.model[0].weight.data[0, 0] += comm.rank
    with pytest.raises(ParameterMismatchError):
        evaluate(loop.model, loop.x, loop.y, comm)


@pytest.mark.parametrize("loaded", ["by one rank", "by all ranks", "by none"])
def test_evaluation_of_a_state_that_one_rank_has_loaded(comm, problem, loaded):
    several(comm)
    first, model = Loop(comm, problem).broadcast(), Loop(comm, problem).model
    if loaded == "by all ranks" or (loaded == "by one rank" and comm.rank == 0):
        model.load_state_dict(first.model.state_dict())
    if loaded == "by one rank":
        with pytest.raises(ParameterMismatchError, match="load a state on every rank, or on rank 0 before"):
            evaluate(model, first.x, first.y, comm)
    else:
        assert evaluate(model, first.x, first.y, comm).samples == N


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


def test_models_that_differ_are_not_broadcast(comm):
    several(comm)
    with pytest.raises(ValueError, match=r"broadcast_parameters: model is .Dense\(in_features=2, .* on rank 0, but"):
        broadcast_parameters(Dense(2 if comm.rank == 0 else 3, 3), comm)


class Swapped(Module):
    """Two equal layers, in the order of ``names``."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            setattr(self, name, Dense(2, 3))


@pytest.mark.parametrize(
    ("ours", "others", "text"),
    [
        (
            lambda: (Sequential(Dense(2, 3), Dense(3, 3, bias=False)), None),
            lambda: (Sequential(Dense(2, 3), Dense(3, 3)), None),
            r"layer '1' is 'Dense\(.*bias=False\)' on rank 0, but 'Dense\(.*bias=True\)' on rank 1",
        ),
        (
            lambda: (Sequential(Dense(2, 3)), None),
            lambda: (Sequential(Dense(2, 3), Dense(3, 3)), None),
            r"layer '1' is None on rank 0, but 'Dense\(in_features=3, out_features=3, bias=True\)' on rank 1",
        ),
        (
            lambda: (model := Dense(2, 3), SGD(model.parameters(), 0.1, momentum=0.9)),
            lambda: (model := Dense(2, 3), Adam(model.parameters(), 0.1)),
            r"optimizer is 'SGD\([^']*\)' on rank 0, but 'Adam\([^']*\)' on rank 1",
        ),
        (
            lambda: (model := Dense(2, 3), SGD(model.parameters(), 0.1)),
            lambda: (Dense(2, 3), None),
            r"optimizer is 'SGD\([^']*\)' on rank 0, but None on rank 1",
        ),
        (
            lambda: (Swapped("ab"), None),
            lambda: (Swapped("ba"), None),
            "layer 'a' comes on rank 0 where rank 1 has layer 'b'",
        ),
    ],
    ids=["bias", "layers", "optimizers", "no optimizer", "order"],
)
def test_one_name_that_differs_is_shown(comm, ours, others, text):
    several(comm)
    model, optimizer = others() if comm.rank == 1 else ours()
    with pytest.raises(
        ValueError, match=f"^broadcast_parameters: {text}[^']*: pass equal arguments on all ranks"
    ) as caught:
        broadcast_parameters(model, comm, optimizer)
    assert len(str(caught.value)) < 350


@pytest.mark.parametrize(
    "call",
    [
        lambda model, comm: Trainer(model, SGD(model.parameters(), 0.1), comm),
        broadcast_parameters,
        sum_gradients,
    ],
    ids=["Trainer", "broadcast_parameters", "sum_gradients"],
)
def test_a_training_has_the_ranks_of_the_layers(comm, call):
    several(comm)
    model = Sequential(Dense(2, 3), SyncBatchNorm(3, comm=comm))
    y, backward = model(np.ones((4, 2), np.float32) * np.arange(4, dtype=np.float32)[:, None])
    backward(y)
    text = f"synchronized over {comm.size} ranks, but comm has 1, .* pass the communicator of the layers, or comm=None"
    with pytest.raises(ValueError, match=text):
        call(model, SerialComm())


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
