"""Data-parallel training on ranks: with DistributedDataParallel, and with the functions that replace it."""

from __future__ import annotations

import copy
import re
from contextlib import nullcontext
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest

from torch_bridge.cases import close, tensor, torch

# isort: split
from syncbn import SyncMismatchError
from syncbn.torch import (
    SyncBatchNorm,
    TorchComm,
    average_gradients,
    broadcast_parameters,
    convert_sync_batchnorm,
    loss_weight,
)

pytestmark = pytest.mark.ranks
nn = torch.nn


def network(seed):
    torch.manual_seed(seed)
    layers = nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers).double()


def batches(comm, rng, even):
    """Return images and labels of all ranks, and the slice of this rank: 2 samples, or rank + 1."""
    sizes = [2 if even else rank + 1 for rank in range(comm.size)]
    start = sum(sizes[: comm.rank])
    images, labels = tensor(rng, (sum(sizes), 2, 4, 4)), torch.from_numpy(rng.integers(0, 3, sum(sizes)))
    return images, labels, slice(start, start + sizes[comm.rank])


@pytest.mark.parametrize("way", ["DistributedDataParallel", "average_gradients"])
@pytest.mark.parametrize("even", [True, False])
def test_steps_have_the_gradients_of_one_process(any_comm, rng, even, way, process_group):
    comm = any_comm
    images, labels, mine = batches(comm, rng, even)
    whole = network(0)
    model = convert_sync_batchnorm(network(comm.rank), comm=comm)
    if way == "DistributedDataParallel":
        train = nn.parallel.DistributedDataParallel(model, process_group=process_group)
    else:
        train = model
        broadcast_parameters(model, comm)
    cross_entropy = nn.functional.cross_entropy
    for _ in range(2):
        cross_entropy(whole(images), labels).backward()
        loss = cross_entropy(train(images[mine]), labels[mine])
        (loss * loss_weight(mine.stop - mine.start, comm)).backward()
        if train is model:
            average_gradients(model, comm)
        for found, expected in zip(model.parameters(), whole.parameters(), strict=True):
            close(found.grad, expected.grad)
            for parameter in (found, expected):
                parameter.data -= 0.1 * parameter.grad
                parameter.grad = None
    for (_, found), (_, expected) in zip(model.named_buffers(), whole.named_buffers(), strict=True):
        close(found.double(), expected.double(), torch.float64)


def test_unweighted_losses_of_uneven_batches_are_another_gradient(any_comm, rng, process_group):
    comm = any_comm
    images, labels, mine = batches(comm, rng, False)
    whole, model = network(0), convert_sync_batchnorm(network(0), comm=comm)
    train = nn.parallel.DistributedDataParallel(model, process_group=process_group)
    nn.functional.cross_entropy(whole(images), labels).backward()
    nn.functional.cross_entropy(train(images[mine]), labels[mine]).backward()
    same = np.allclose(model[0].weight.grad, whole[0].weight.grad, rtol=1e-3)
    assert same == (comm.size == 1)
    expected = comm.size * (comm.rank + 1) / (comm.size * (comm.size + 1) / 2)
    assert loss_weight(comm.rank + 1, comm) == expected
    assert loss_weight(0, comm) == 0


def with_gradients(model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def test_parameters_and_buffers_of_any_dtype_are_those_of_rank_0(any_comm):
    comm = any_comm
    torch.manual_seed(comm.rank)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).bfloat16(), nn.Linear(2, 2).double())
    model[1].running_mean += comm.rank
    model[1].num_batches_tracked += comm.rank
    model[0].weight.data = model[0].weight.data.T.contiguous().T
    torch.manual_seed(0)
    expected = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).bfloat16(), nn.Linear(2, 2).double())
    broadcast_parameters(model, comm)
    torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def test_gradients_that_only_some_ranks_have_count_as_zeros(any_comm):
    comm = any_comm
    model = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1).bfloat16()])
    if comm.rank == 0:
        model[0].weight.grad = torch.ones(1, 1)
    model[2].bias.grad = torch.full((1,), comm.rank, dtype=torch.bfloat16)
    average_gradients(model, comm)
    assert model[0].weight.grad == 1 / comm.size
    assert model[1].weight.grad is None
    assert model[2].bias.grad.dtype == torch.bfloat16
    assert model[2].bias.grad == torch.tensor((comm.size - 1) / 2, dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_that_differ_raise_on_all_ranks(any_comm, dtype):
    """In calls 1, 2, 4, 8 and so on, and in every hundredth."""
    comm = any_comm
    model = with_gradients(nn.Linear(3, 2).to(dtype))
    broadcast_parameters(model, comm)
    average_gradients(model, comm)
    with torch.no_grad():
        model.weight[1, 2] += comm.rank
    for call in range(2, 101):
        expected = pytest.raises(ValueError, match=r"parameters differ between ranks: .*broadcast_parameters.*#parame")
        with expected if comm.size > 1 and call in (2, 4, 8, 16, 32, 64, 100) else nullcontext():
            average_gradients(model, comm)


def test_a_forgotten_backward_raises_on_all_ranks(any_comm):
    model = torch.nn.Linear(2, 2)
    broadcast_parameters(model, any_comm)
    with pytest.raises(RuntimeError, match=r"no parameter has a gradient on any rank: call loss\.backward\(\)"):
        average_gradients(model, any_comm)


def test_parameters_that_have_diverged_are_not_compared(any_comm):
    """Their bits may differ where the models are equal."""
    model = with_gradients(nn.Linear(3, 2))
    with torch.no_grad():
        model.bias[:] = (-1) ** any_comm.rank * torch.nan
    average_gradients(model, any_comm)


@pytest.mark.parametrize("trained", ["together", "alone", "diverged"])
def test_layers_that_train_alone_are_a_warning_on_rank_0(any_comm, rng, trained):
    """Once for each layer."""
    comm, warnings = any_comm, []
    layer = SyncBatchNorm(3, comm=comm)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(4):
        with catch_warnings(record=True) as found:
            simplefilter("always")
            y = layer(tensor(rng, (4, 3)).float())
        warnings += [str(each.message) for each in found]
        ((comm.rank + 1) * y.sum()).backward()
        if trained == "together":
            average_gradients(layer, comm)
        optimizer.step()
        if trained == "diverged":
            layer.bias.data[0] = (-1) ** comm.rank * torch.nan
    if trained == "alone" and comm.size > 1 and comm.rank == 0:
        (text,) = warnings
        assert re.search(
            r"weight or bias of torch\.SyncBatchNorm #\d+ differs between ranks, .*average_gradients", text
        )
    else:
        assert warnings == []


@pytest.mark.parametrize("function", [broadcast_parameters, average_gradients])
def test_models_that_differ_raise_on_all_ranks(any_comm, function):
    comm = any_comm
    with pytest.raises(TypeError if comm.rank == comm.size - 1 else SyncMismatchError, match=r"torch\.nn\.Module"):
        function("model" if comm.rank == comm.size - 1 else with_gradients(nn.Linear(2, 2)), comm)
    if comm.size > 1:
        with pytest.raises(SyncMismatchError, match="hash"):
            function(with_gradients(nn.Linear(2, 2 + comm.rank)), comm)
    torch.manual_seed(0)
    function(with_gradients(nn.Linear(2, 2)), comm)


def test_a_negative_number_of_samples_raises_on_all_ranks(any_comm):
    comm = any_comm
    with pytest.raises(ValueError if comm.rank == 0 else SyncMismatchError, match="samples must be at least 0"):
        loss_weight(-1 if comm.rank == 0 else 1, comm)


def test_a_sparse_gradient_raises_on_all_ranks(any_comm):
    comm = any_comm
    model = nn.Embedding(4, 2, sparse=comm.rank == 0)
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError if comm.rank == 0 else SyncMismatchError, match="is sparse"):
        average_gradients(model, comm)


@pytest.mark.parametrize("function", [broadcast_parameters, average_gradients])
def test_a_tensor_that_is_not_on_the_cpu_raises_on_all_ranks(any_comm, function):
    """The communicator remains usable."""
    comm = any_comm
    model = nn.Linear(2, 2, device="meta" if comm.rank == 0 else "cpu")
    with pytest.raises(TypeError if comm.rank == 0 else SyncMismatchError, match=r"weight is on device meta, expected"):
        function(model, comm)
    comm.barrier()


@pytest.mark.parametrize("named", [False, True])
def test_a_model_that_is_converted_for_a_process_group(process_group, named):
    arguments = {"process_group": process_group} if named else process_group
    convert = convert_sync_batchnorm
    model = nn.Sequential(nn.BatchNorm1d(3))
    model = convert(model, **arguments) if named else convert(model, arguments)
    assert model[0].process_group is process_group
    assert isinstance(model[0].comm, TorchComm)
    assert model[0].comm.size == process_group.size()


def test_types_that_gloo_lacks(process_group):
    comm = TorchComm.of(process_group)
    for dtype in (np.int16, np.uint32, np.complex128, np.longdouble):
        with pytest.raises(TypeError, match=f"gloo has no type for {np.dtype(dtype)}: convert"):
            comm.allreduce(np.zeros(3, dtype))
    comm.barrier()


def test_a_wrong_timeout_raises_on_all_ranks(process_group, comm):
    with pytest.raises(ValueError if comm.rank == 0 else SyncMismatchError, match="timeout must be positive seconds"):
        TorchComm(process_group, timeout=-1 if comm.rank == 0 else 60).barrier()  # in which other ranks hear of it


def test_a_copy_of_a_model_on_ranks(any_comm):
    """For an exponential moving average of the weights, say."""
    comm = any_comm
    model = nn.Sequential(SyncBatchNorm(3, comm=comm))
    clone = copy.deepcopy(model)
    assert clone[0].comm is comm
    clone(torch.randn(4, 3)).sum().backward()
    model(torch.randn(4, 3)).sum().backward()


def test_training_in_evaluation_mode(any_comm):
    """It warns once on rank 0, unless only the layers are in evaluation mode."""
    model = nn.Sequential(nn.Linear(4, 3), SyncBatchNorm(3, comm=any_comm))
    broadcast_parameters(model, any_comm)
    model[1].eval()
    for mode, warns in ((model.train, False), (model.eval, True), (model.eval, False)):
        mode()
        model[1].eval()
        model(torch.ones(2, 4)).sum().backward()
        with (
            pytest.warns(RuntimeWarning, match=r"in evaluation mode.*call model\.train\(\)")
            if (warns and any_comm.rank == 0)
            else nullcontext()
        ):
            average_gradients(model, any_comm)
