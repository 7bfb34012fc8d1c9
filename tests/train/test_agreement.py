"""On ranks: the check that parameters have the same bits everywhere."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from syncbn import BatchNorm, BatchRenorm, GhostBatchNorm, SyncBatchNorm, SyncMismatchError
from syncbn.nn import SGD, Dense, Sequential
from syncbn.train import ParameterMismatchError, Trainer, check_parameters

pytestmark = pytest.mark.ranks


def test_ranks_begin_with_rank_0s_values(comm, build):
    trainer = build("bn", comm, seed=comm.rank)
    check_parameters(trainer.model, comm)
    expected = build("bn", comm, seed=0).model.state_dict()
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name])


def test_ranks_begin_with_rank_0s_values_also_in_float16(comm):
    """MPI has no type for float16."""
    norm = BatchNorm(3, dtype=np.float16)
    norm.weight.data[...] = comm.rank + 1
    Trainer(model := Sequential(norm, Dense(3, 2)), SGD(model.parameters(), 0.1), comm)
    np.testing.assert_array_equal(norm.weight.data, np.ones(3, np.float16))


def test_one_bit_on_one_rank_is_found_on_all(comm, build):
    model = build("bn", comm).model
    check_parameters(model, comm)
    odd = comm.size - 1
    if comm.rank == odd:
        model[1].bias.data[3] = np.nextafter(model[1].bias.data[3], 1)
        model[3].weight.data[0, 0] += 1
    if comm.size == 1:
        check_parameters(model, comm)
        return
    # Of two ranks nobody knows which is wrong; of more, most are right.
    with pytest.raises(ParameterMismatchError, match=rf"rank {odd} from rank 0; the first that differs is '1\.bias'"):
        check_parameters(model, comm)


def test_models_of_other_sizes_or_dtypes_are_found_on_all(comm):
    """Also where the bytes of all parameters are the same."""
    last = comm.rank == comm.size - 1
    for ours, others, name in (
        ([Dense(3, 4), Dense(4, 2)], [Dense(3, 4)], r"1\.weight"),
        ([Dense(4, 3, bias=False)], [Dense(3, 4, bias=False)], r"0\.weight"),
        ([BatchNorm(4, dtype=np.float64)], [BatchNorm(8)], r"0\.weight"),
    ):
        model = Sequential(*(ours if last else others))
        for parameter in model.parameters():
            parameter.data[...] = 0
        with (
            pytest.raises(ParameterMismatchError, match=rf"the first that differs is '{name}'")
            if comm.size > 1
            else nullcontext()
        ):
            check_parameters(model, comm)


def test_buffers_may_differ(comm, build):
    model = build("bn", comm).model
    model[1].running_mean += comm.rank
    check_parameters(model, comm)


@pytest.mark.parametrize("layer", [SyncBatchNorm, BatchRenorm, GhostBatchNorm])
def test_synchronized_running_statistics_that_differ(comm, layer):
    """The momentum of one rank has another value."""
    ghost = {"virtual_batch_size": 2} if layer is GhostBatchNorm else {}
    model = Sequential(Dense(3, 4, rng=np.random.default_rng(0)), layer(4, momentum=0.1, comm=comm, **ghost))
    x = np.random.default_rng(comm.rank).normal(size=(4, 3))
    model(x)
    check_parameters(model, comm)
    if comm.rank == 0:
        model[1].momentum = 0.2
    model(x)
    expected = pytest.raises(ParameterMismatchError, match=r"'1\.running_mean'.*momentum of layers")
    with expected if comm.size > 1 else nullcontext():
        check_parameters(model, comm)


def test_a_module_with_a_communicator_may_contain_local_layers(comm):
    """Its running statistics differ between ranks."""
    model = Sequential(BatchNorm(3))
    model.comm = comm
    model(np.random.default_rng(comm.rank).normal(size=(4, 3)))
    check_parameters(model, comm)


def test_groups_have_running_statistics_of_their_own(comm):
    group = comm.split(1)
    model = Sequential(SyncBatchNorm(3, comm=group))
    model(np.random.default_rng(comm.rank).normal(size=(4, 3)))
    check_parameters(model, comm)
    group.free()


@pytest.mark.parametrize("check_every", [1, 2, 100])
def test_training_finds_a_changed_parameter(comm, build, data, check_every):
    trainer = build("ln", comm, check_every=check_every)

    def change(progress):
        if progress.step == 2 and comm.rank == 0:
            trainer.model[0].weight.data[0, 0] += 1e-12

    if comm.size == 1:
        trainer.fit(*data, 1, on_step=change)
        return
    with pytest.raises(ParameterMismatchError, match=r"'0\.weight'"):
        trainer.fit(*data, 1, on_step=change)
    assert trainer.position.step == {1: 3, 2: 4, 100: 5}[check_every]


def test_without_checks_nobody_sees_it(comm, build, data):
    trainer = build("ln", comm, check_every=None)
    if comm.rank == 0:
        trainer.model[0].weight.data[0, 0] += 1e-12
    trainer.fit(*data, 1)
    if comm.size > 1:
        with pytest.raises(ParameterMismatchError):
            check_parameters(trainer.model, comm)


def test_other_arguments_on_one_rank(comm, build, data):
    x, y = data
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    last = comm.size - 1
    with pytest.raises(ValueError, match=f"Trainer: seed is '0' on rank 0, but '1' on rank {last}"):
        Trainer((model := build("bn", comm)).model, model.optimizer, comm, seed=int(comm.rank == last))
    with pytest.raises(
        ValueError, match=r"Trainer: layer '0' is .*bias=False\)' on rank 0, but .*bias=True\)' on rank 1"
    ):
        build("ln" if comm.rank else "bn", comm)
    trainer = build("ln", comm)
    with pytest.raises(ValueError, match=f"fit: epochs is 1 on rank 0, but 2 on rank {last}"):
        trainer.fit(x, y, 1 + (comm.rank == last))
    with pytest.raises(ValueError, match="fit: samples is"):
        trainer.fit(x + comm.rank, y, 1)
    with pytest.raises(ValueError, match="fit: checkpoint is"):
        trainer.fit(x, y, 1, checkpoint="here" if comm.rank else None)
    trainer.fit(x, y, 1)


def test_nan_of_both_signs_is_divergence_and_not_a_mismatch(comm):
    model = Sequential(BatchNorm(4, dtype=np.float16), Dense(4, 2, dtype=np.float64, rng=np.random.default_rng(0)))
    for parameter in model.parameters():
        parameter.data.flat[0] = np.copysign(np.nan, -1 if comm.rank % 2 else 1)
    check_parameters(model, comm)
    if comm.size > 1:
        model[1].weight.data[1, 1] = np.nan if comm.rank else 1.0  # NaN on some ranks alone
        with pytest.raises(ParameterMismatchError, match=r"'1\.weight'"):
            check_parameters(model, comm)


def test_a_bad_model_on_one_rank_reaches_all(comm):
    culprit = comm.size - 1
    model = None if comm.rank == culprit else Dense(2, 2, rng=np.random.default_rng(0))
    error, text = (TypeError, "model must be") if comm.rank == culprit else (SyncMismatchError, f"rank {culprit} ")
    with pytest.raises(error, match=text):
        check_parameters(model, comm)
