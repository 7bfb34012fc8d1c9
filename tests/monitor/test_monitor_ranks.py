"""The monitor on ranks: rank 0 writes what all ranks have seen."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, SerialComm, SyncBatchNorm, SyncMismatchError
from syncbn.monitor import Monitor, read_records
from syncbn.nn import SGD, Dense, ReLU, Sequential, softmax_cross_entropy
from syncbn.train import Trainer, broadcast_parameters, shard, sum_gradients

pytestmark = pytest.mark.ranks


@pytest.fixture
def data():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((36, 6)) + 1
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


def network(norm):
    rng = np.random.default_rng(1)
    layers = [norm(6), ReLU(), Dense(6, 9, rng=rng, dtype=np.float64), norm(9), ReLU()]
    return Sequential(*layers, Dense(9, 3, rng=rng, dtype=np.float64))


def run(comm, path, data, norm):
    model = network(norm)
    model[0].bias.data[:2] = -100
    trainer = Trainer(model, SGD(model.parameters(), 0.1), comm, batch_per_rank=12 // comm.size)
    with Monitor(model, path, comm, every=2):
        trainer.fit(*data, 2)
    return read_records(path)


def test_the_records_are_those_of_one_process(comm, data, shared_path):
    ours = run(comm, shared_path / "ranks.jsonl", data, lambda c: SyncBatchNorm(c, comm=comm, dtype=np.float64))
    file = shared_path / f"one{comm.rank}.jsonl"
    whole = run(SerialComm(), file, data, lambda c: BatchNorm(c, dtype=np.float64))
    assert [(r["step"], r["layer"]) for r in ours] == [(r["step"], r["layer"]) for r in whole]
    assert [r["step"] for r in ours] == np.repeat([0, 2, 4], 6).tolist()
    for one, other in zip(ours, whole, strict=True):
        if one["layer"] == "0":
            for key in ("batch_mean", "batch_var", "running_mean", "mean_distance", "var_distance"):
                assert one[key] == other[key], key
        if "dead" in other:
            assert one["dead"] == other["dead"]
        np.testing.assert_allclose(one["output_grad_norm"], other["output_grad_norm"], rtol=1e-8)
        for name, norm in other.get("grad_norms", {}).items():
            np.testing.assert_allclose(one["grad_norms"][name], norm, rtol=1e-6, atol=1e-12)
    assert ours[1]["dead"] == 2 / 6


def test_a_loop_of_ones_own_records_the_norms_of_the_summed_gradients(comm, data, shared_path):
    model = network(lambda c: SyncBatchNorm(c, comm=comm, dtype=np.float64))
    optimizer = SGD(model.parameters(), 0.1)
    broadcast_parameters(model, comm)
    own = shard(len(data[0]), comm.rank, comm.size)
    with Monitor(model, shared_path / "run.jsonl", comm):
        logits, backward = model(data[0][own])
        backward(softmax_cross_entropy(logits, data[1][own], len(data[0]))[1])
        local = np.linalg.norm(model[5].weight.grad)
        sum_gradients(model, comm)
        optimizer.step()
    record = read_records(shared_path / "run.jsonl")[5]
    norm = np.linalg.norm(model[5].weight.grad)
    np.testing.assert_allclose(record["grad_norms"]["weight"], norm, rtol=1e-12)
    assert (comm.size == 1) == np.isclose(local, norm, rtol=1e-9)


def test_an_error_of_one_rank_is_raised_on_all(comm, data, shared_path):
    if comm.size == 1:
        pytest.skip("no other rank")
    model = network(lambda c: SyncBatchNorm(c, comm=comm, dtype=np.float64))
    first = comm.rank == 0
    with pytest.raises(FileNotFoundError if first else SyncMismatchError, match="No such file"):
        Monitor(model, shared_path / "missing" / "run.jsonl", comm)
    with pytest.raises(SyncMismatchError, match="every"):
        Monitor(model, shared_path / "run.jsonl", comm, every=1 + first)
    trainer = Trainer(model, SGD(model.parameters(), 0.1), comm, batch_per_rank=4)
    with Monitor(model, shared_path / "run.jsonl", comm) as monitor:
        if first:
            monitor._file.close()
        with pytest.raises(ValueError if first else SyncMismatchError, match="closed file"):
            trainer.fit(*data, 1)
    assert not model[0]._forward_hooks
    trainer.fit(*data, 1)
