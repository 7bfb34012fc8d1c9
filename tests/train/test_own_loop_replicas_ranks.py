"""On ranks: models, states and optimizers that differ between the ranks of a loop of the user's own."""

from __future__ import annotations

import numpy as np
import pytest
from own_loop import Loop, N, several

from syncbn import Module, SerialComm, SyncBatchNorm
from syncbn.nn import SGD, Adam, Dense, Sequential
from syncbn.train import (
    ParameterMismatchError,
    Trainer,
    broadcast_parameters,
    evaluate,
    sum_gradients,
)

pytestmark = pytest.mark.ranks


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
