"""On ranks: a mistake in the arguments of one rank raises its own error there, and one that repeats it elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import MPIComm, SyncBatchNorm, SyncError, SyncMismatchError
from syncbn import functional as F
from syncbn.nn import SGD, Dense, Sequential
from syncbn.train import Trainer, check_parameters, evaluate

pytestmark = pytest.mark.ranks

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = np.zeros(12, int)


class Mistake:
    """A trainer with its model, and one rank that makes mistakes."""

    def __init__(self, comm, path):
        self.comm, self.path = comm, path
        self.culprit = comm.size - 1
        rng = np.random.default_rng(0)
        self.layer = SyncBatchNorm(4, comm=comm)
        self.model = Sequential(Dense(4, 3, rng=rng), SyncBatchNorm(3, comm=comm))
        self.trainer = Trainer(self.model, SGD(self.model.parameters(), 0.1), comm, batch_per_rank=3)

    def pick(self, right, wrong):
        return wrong if self.comm.rank == self.culprit else right


def set_timeout(mistake):
    def callback(_):
        mistake.comm.timeout = mistake.pick(None, -1)

    return callback


MISTAKES = {
    "save": (lambda m: m.trainer.save(m.pick(m.path, None)), "NoneType"),
    "resume": (lambda m: m.trainer.resume(m.pick(m.path, None), missing_ok=True), "NoneType"),
    "checkpoint": (lambda m: m.trainer.fit(X, Y, 1, checkpoint=m.pick(m.path, 3)), "int"),
    "validation data": (lambda m: m.trainer.fit(X, Y, 1, validation_data=m.pick((X, Y), (X,))), "must be a pair"),
    "timeout in on_step": (lambda m: m.trainer.fit(X, Y, 1, on_step=set_timeout(m)), "timeout must be positive"),
    "timeout in on_epoch": (lambda m: m.trainer.fit(X, Y, 1, on_epoch=set_timeout(m)), "timeout must be positive"),
    "ragged list": (lambda m: evaluate(m.model, m.pick(X, [[1], [2, 3]]), Y, m.comm), "expected NumPy arrays"),
    "model of evaluate": (lambda m: evaluate(m.pick(m.model, None), X, Y, m.comm), "must be a syncbn module"),
    "model of check_parameters": (lambda m: check_parameters(m.pick(m.model, None), m.comm), "must be a syncbn module"),
    "model of Trainer": (lambda m: Trainer(m.pick(m.model, None), m.trainer.optimizer, m.comm), "must be a syncbn mod"),
    "keyword of a layer": (lambda m: m.layer(X, **m.pick({}, {"bad": 1})), "unexpected keyword argument 'bad'"),
    "no input of a layer": (lambda m: m.layer(*m.pick((X,), ())), "missing 1 required positional argument"),
    "keyword of a layer's backward": (lambda m: m.layer(X)[1](X, **m.pick({}, {"bad": 1})), "unexpected keyword"),
    "keyword of a backward": (lambda m: F.batch_norm(X, comm=m.comm)[2](X, **m.pick({}, {"bad": 1})), "unexpected k"),
    "keyword of batch_norm": (lambda m: F.batch_norm(X, comm=m.comm, **m.pick({}, {"bad": 1})), "unexpected keyword"),
    "keyword of broadcast": (lambda m: m.comm.broadcast(X.copy(), **m.pick({}, {"bad": 1})), "unexpected keyword"),
    "no array of allreduce": (lambda m: m.comm.allreduce(*m.pick((X.copy(),), ())), "missing 1 required positional"),
    "argument of barrier": (lambda m: m.comm.barrier(*m.pick((), (1,))), "takes 1 positional argument but 2"),
    "keyword of split": (lambda m: m.comm.split(**m.pick({"group_size": 1}, {"size": 1})), "unexpected keyword"),
    "masked array of allreduce": (lambda m: m.comm.allreduce(m.pick(X.copy(), np.ma.array(X))), "masked array"),
    "masked array of broadcast": (lambda m: m.comm.broadcast(m.pick(X.copy(), np.ma.array(X))), "masked array"),
    "comm of batch_norm": (lambda m: F.batch_norm(X, comm=m.pick(m.comm, 3)), "comm must be None, an mpi4py"),
    "comm of Trainer": (lambda m: Trainer(m.model, m.trainer.optimizer, m.pick(m.comm, 3)), "comm must be None, an"),
    "keyword of Trainer": (
        lambda m: Trainer(m.model, m.trainer.optimizer, m.comm, **m.pick({}, {"bad": 1})),
        "unexpected keyword",
    ),
    "keyword of fit": (lambda m: m.trainer.fit(X, Y, **m.pick({"epochs": 1}, {"epoch": 1})), "unexpected keyword"),
    "no path of save": (lambda m: m.trainer.save(*m.pick((m.path,), ())), "missing 1 required positional"),
    "keyword of evaluate": (lambda m: evaluate(m.model, X, Y, **m.pick({}, {"bad": 1})), "unexpected keyword"),
    "comm of evaluate": (lambda m: evaluate(m.model, X, Y, m.pick(m.comm, 3)), "comm must be None, an mpi4py"),
    "no model of evaluate": (lambda m: evaluate(m.pick(m.model, None), X, Y), "must be a syncbn module"),
    "no labels of evaluate": (lambda m: evaluate(m.model, X, *m.pick((Y,), ())), "missing 1 required positional"),
    "keyword of check_parameters": (
        lambda m: check_parameters(m.model, m.comm, **m.pick({}, {"bad": 1})),
        "unexpected keyword",
    ),
    "timeout of MPIComm": (
        lambda m: MPIComm(timeout=m.pick(None, -1)).barrier(),
        "timeout must be positive seconds or None, got -1",
    ),
    "relu": (lambda m: m.layer(X, relu=m.pick(True, "no")), "relu must be True or False, got 'no'"),
    "total": (
        lambda m: F.batch_norm(X, comm=m.comm)[2](X, total=m.pick(True, np.ones(2))),
        "total must be True or False",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_of_one_rank_reaches_all(comm, tmp_path, kind):
    if comm.size == 1:
        pytest.skip("needs another rank")
    call, text = MISTAKES[kind]
    with MPIComm(timeout=10) as own:
        mistake = Mistake(own, tmp_path / "checkpoint")
        if own.rank == mistake.culprit:
            with pytest.raises((TypeError, ValueError), match=text):
                call(mistake)
        else:
            with pytest.raises(SyncMismatchError, match=f"rank {mistake.culprit} had bad input: .*{text}"):
                call(mistake)
        own.barrier()


def test_samples_that_differ_between_ranks(comm, tmp_path):
    if comm.size == 1:
        pytest.skip("needs another rank")
    with MPIComm() as own:
        mistake = Mistake(own, tmp_path / "checkpoint")
        with pytest.raises(SyncMismatchError, match=r"Pass the same samples on all ranks, of which train\."):
            evaluate(mistake.model, X + own.rank, Y, own)
        with pytest.raises(ValueError, match=r"validation_data is (\{.*on rank 0, but None|None on rank 0, but \{)"):
            mistake.trainer.fit(X, Y, 1, validation_data=mistake.pick((X, Y), None))
        own.barrier()


@pytest.mark.parametrize("groups", [1, 2])
def test_the_error_of_a_callback_is_not_lost_where_layers_have_other_communicators(comm, groups):
    if comm.size == 1:
        pytest.skip("needs another rank")
    culprit = comm.size - 1
    with MPIComm() as world:
        layers = world.split(-(-world.size // groups)) if groups > 1 else MPIComm()
        model = Sequential(Dense(4, 5), SyncBatchNorm(5, comm=layers), Dense(5, 3))
        trainer = Trainer(model, SGD(model.parameters(), 0.01), world, batch_per_rank=2)

        def on_step(progress):
            if world.rank == culprit and progress.step == 2:
                raise OSError("no such directory")

        with pytest.raises(OSError if world.rank == culprit else SyncError, match="no such directory"):
            trainer.fit(np.repeat(X, 3, axis=0), np.repeat(Y, 3), 1, on_step=on_step)
        world.barrier()


def test_evaluate_makes_no_communicator_of_its_own(comm):
    with MPIComm() as own:
        model = Sequential(Dense(4, 3), SyncBatchNorm(3, comm=own))
        before = own.bytes_sent
        evaluate(model, X, Y)
        assert (own.bytes_sent > before) == (comm.size > 1)
        trainer = Trainer(model, SGD(model.parameters(), 0.1))
        assert comm.size == 1 or trainer.comm is own
