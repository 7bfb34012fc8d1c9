"""The layer on ranks, over MPI and gloo, compared with PyTorch's batch normalization of the concatenated batch."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest

from torch_bridge.cases import FORMATS, TOLERANCES, close, random_parameters, run, same_bits, tensor, torch

# isort: split
from torch.utils.checkpoint import checkpoint

import syncbn
from syncbn import SyncMismatchError
from syncbn.torch import SyncBatchNorm, TorchComm, convert_sync_batchnorm

pytestmark = pytest.mark.ranks
nn = torch.nn


def parts(comm, sizes):
    """Return the slice of each rank's samples in the whole batch, whose sizes are given by a function of the rank."""
    ends = np.cumsum([0, *(sizes(rank) for rank in range(comm.size))])
    return [slice(start, end) for start, end in pairwise(ends)]


def sync(comm, channels=3, **options):
    return SyncBatchNorm(channels, comm=comm, **options)


def total(comm, gradient):
    """Return the sum of a rank's gradient over ranks."""
    array = gradient.detach().double().numpy().copy()
    comm.allreduce(array)
    return torch.from_numpy(array)


UNEVEN = {"rank + 2": lambda r: r + 2, "rank 0 empty": lambda r: 3 * r, "one each": lambda _: 1}


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("sizes", UNEVEN)
@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 5), (3, 2, 2, 2)])
def test_one_step_on_uneven_batches(any_comm, rng, shape, sizes, dtype):
    comm, own = any_comm, parts(any_comm, UNEVEN[sizes])
    count = max(own[-1].stop, 0)
    if count * np.prod(shape[1:]) < 2:
        pytest.skip("one value per channel")
    mine = own[comm.rank]
    x, dy = tensor(rng, (count, *shape), dtype), tensor(rng, (count, *shape), dtype)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    layer = random_parameters(sync(comm, dtype=kind), rng)
    whole, alone = nn.BatchNorm2d(3, dtype=kind), SyncBatchNorm(3, comm=syncbn.SerialComm(), dtype=kind)
    whole._check_input_dim = lambda _: None
    whole.load_state_dict(layer.state_dict()), alone.load_state_dict(layer.state_dict())
    whole = whole.double()
    y, dx, dweight, dbias = run(layer, x[mine], dy[mine])
    expected = run(whole, x.double(), dy.double())
    close(y, expected[0][mine], dtype)
    close(dx, expected[1][mine], dtype)
    close(total(comm, dweight), expected[2], dtype)
    close(total(comm, dbias), expected[3], dtype)
    close(layer.running_var, whole.running_var, torch.float32)
    exact_y, exact_dx, *_ = run(alone, x, dy)
    same_bits(y, exact_y[mine])
    same_bits(dx, exact_dx[mine])
    same_bits(layer.running_mean, alone.running_mean)
    same_bits(layer.running_var, alone.running_var)


@pytest.mark.parametrize("ndim", [4, 5])
def test_channels_last_is_kept(any_comm, rng, ndim):
    comm, shape = any_comm, (2, 5, 2, 3, 2)[:ndim]
    x = tensor(rng, shape, torch.float32).contiguous(memory_format=FORMATS[ndim])
    layer = sync(comm, 5)
    y, dx, *_ = run(layer, x, x)
    assert y.is_contiguous(memory_format=FORMATS[ndim])
    assert dx.is_contiguous(memory_format=FORMATS[ndim])
    same_bits(y, run(layer, x.contiguous(), x.contiguous())[0])


def test_local_statistics_differ(any_comm, rng):
    comm = any_comm
    x = tensor(rng, (4 * comm.size, 3))[4 * comm.rank :][:4]
    different = not np.allclose(sync(comm)(x).detach(), nn.BatchNorm1d(3).double()(x).detach(), atol=1e-3)
    assert different == (comm.size > 1)


def test_all_ranks_without_samples(any_comm):
    layer = sync(any_comm)
    x = torch.zeros(0, 3, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == (0, 3, 2, 2)
    assert torch.equal(layer.weight.grad, torch.zeros(3))
    assert layer.num_batches_tracked == 0


def test_lengths_that_differ_by_powers_of_ten(any_comm, rng):
    """Scenario of PyTorch's tests: batch 2 and length 10^(i+1), momentum 0.99, 100 steps."""
    comm, layer = any_comm, sync(any_comm, 3, momentum=0.99)
    for _ in range(100):
        data = [rng.standard_normal((2, 3, 10 ** (min(rank, 2) + 1))).astype(np.float32) for rank in range(comm.size)]
        layer(torch.from_numpy(data[comm.rank]))
    values = np.concatenate([each.transpose(1, 0, 2).reshape(3, -1) for each in data], axis=1).astype(np.float64)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.99 * values.var(1, ddof=1) + 0.01, rtol=0.01)
    assert layer.num_batches_tracked == 100


@pytest.mark.parametrize("momentum", [None, 0.0, 0.1, 1.0])
def test_running_statistics_are_equal_on_all_ranks(any_comm, rng, momentum):
    comm, layer, whole = any_comm, sync(any_comm, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    for step in range(3):
        own = parts(comm, lambda rank, step=step: (rank + step) % 3 + 1)
        x = tensor(rng, (own[-1].stop + 1, 3), torch.float32)
        mine = slice(own[comm.rank].start, own[comm.rank].stop + (comm.rank == comm.size - 1))
        layer(x[mine]), whole(x)
    close(layer.running_mean, whole.running_mean, torch.float32)
    close(layer.running_var, whole.running_var, torch.float32)
    for theirs in comm.allgather(layer.running_var.numpy()):
        np.testing.assert_array_equal(theirs, layer.running_var.numpy())


def network():
    torch.manual_seed(3)
    conv = nn.Conv2d(2, 4, 3, padding=1)
    layers = (
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, 3),
    )
    return nn.Sequential(conv, *layers).double()


@pytest.mark.parametrize("scale", [1, 50])
def test_five_steps_with_shuffling_and_a_saved_state(any_comm, rng, scale):
    """Five steps; with scale 50, rank 0 has other data than all others, and a batch of 16 instead of 8."""
    comm = any_comm
    sizes = (lambda rank: 8 * (1 + (rank == 0))) if scale > 1 else (lambda rank: rank + 2)
    own = parts(comm, sizes)
    mine, count = own[comm.rank], own[-1].stop
    images, labels = tensor(rng, (count, 2, 4, 4)), torch.from_numpy(rng.integers(0, 3, count))
    images[own[0]] *= scale
    model, whole = convert_sync_batchnorm(network(), comm=comm), network()
    for step in range(5):
        order = rng.permutation(count)
        for each, rows in ((model, order[mine]), (whole, order)):
            loss = nn.functional.cross_entropy(each(images[rows]), labels[rows], reduction="sum") / count
            for parameter, gradient in zip(
                each.parameters(), torch.autograd.grad(loss, each.parameters()), strict=True
            ):
                parameter.data -= 0.05 * (total(comm, gradient) if each is model else gradient)
        if step == 2:
            state = copy.deepcopy(model.state_dict())
            model.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
            model.load_state_dict(state)
    for name, value in whole.state_dict().items():
        close(model.state_dict()[name].double(), value.double(), torch.float64)
    close(model.eval()(images), whole.eval()(images))


def test_evaluation_on_one_rank_alone(any_comm, rng):
    comm, layer = any_comm, sync(any_comm)
    x = tensor(rng, (4, 3), torch.float32)
    layer(x)
    sent = comm.bytes_sent
    if comm.rank == 0:
        layer.eval()(x.requires_grad_()).sum().backward()
    assert comm.bytes_sent == sent


def test_groups_of_ranks(any_comm, rng):
    comm = any_comm
    with comm.split(2) as group:
        first = comm.rank // 2 * 2
        x = tensor(rng, (3 * comm.size, 3))
        y, dx, *_ = run(sync(group), x[3 * comm.rank :][:3], x[3 * comm.rank :][:3])
        whole = SyncBatchNorm(3, comm=syncbn.SerialComm())
        group_x = x[3 * first :][: 3 * group.size]
        expected_y, expected_dx, *_ = run(whole, group_x, group_x)
        mine = slice(3 * group.rank, 3 * group.rank + 3)
        same_bits(y, expected_y[mine])
        same_bits(dx, expected_dx[mine])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_changes_no_bit(any_comm, rng, use_reentrant, last):
    """``last``: the layer is the end of what is repeated, where PyTorch may stop before the layer has returned."""
    comm = any_comm
    layers = [nn.Linear(3, 4), sync(comm, 4), *([] if last else [nn.Tanh()])]
    block = nn.Sequential(*layers)
    repeated = copy.deepcopy(block)
    for _ in range(2):
        x = tensor(rng, (3 * comm.size, 3), torch.float32)[3 * comm.rank :][:3].clone().requires_grad_()
        block(x).sin().sum().backward()
        expected, x.grad = x.grad, None
        checkpoint(repeated, x, use_reentrant=use_reentrant).sin().sum().backward()
        same_bits(x.grad, expected)
    for found, other in zip(repeated.parameters(), block.parameters(), strict=True):
        same_bits(found.grad, other.grad)
    for name, value in block.state_dict().items():
        same_bits(repeated.state_dict()[name], value)


@pytest.mark.parametrize("where", ["first", "last", "all", "none"])
@pytest.mark.parametrize("frozen", [True, False])
def test_requires_grad_that_differs_between_ranks(any_comm, rng, where, frozen):
    """All ranks take part in the backward, or none does."""
    comm = any_comm
    x = tensor(rng, (3 * comm.size, 3))
    mine = slice(3 * comm.rank, 3 * comm.rank + 3)
    own = x[mine].clone()
    chosen = {"first": [0], "last": [comm.size - 1], "all": range(comm.size), "none": []}[where]
    own.requires_grad_(comm.rank in chosen)
    layer = sync(comm, dtype=torch.float64)
    layer.requires_grad_(not frozen)
    y = layer(own)
    assert y.requires_grad == (bool(chosen) or not frozen)
    if y.requires_grad:
        y.backward(x[mine])
    assert (own.grad is not None) == (comm.rank in chosen)
    if comm.rank in chosen:
        expected = run(SyncBatchNorm(3, comm=syncbn.SerialComm(), dtype=torch.float64), x, x)[1]
        same_bits(own.grad, expected[mine])
    comm.barrier()


def test_no_grad_on_all_ranks_or_an_error_on_all(any_comm, rng):
    comm, layer = any_comm, sync(any_comm)
    x = tensor(rng, (3, 3), torch.float32)
    with torch.no_grad():
        assert not layer(x).requires_grad
    if comm.size == 1:
        return
    with torch.set_grad_enabled(comm.rank > 0), pytest.raises(SyncMismatchError, match=r"torch\.no_grad"):
        layer(x)
    layer(x).sum().backward()


@pytest.mark.parametrize("culprit", [0, -1])
@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(4, 2), ValueError, "must have 3 channels"),
        (torch.zeros(3), ValueError, "2 or more axes"),
        (torch.zeros(4, 3, dtype=torch.int64), TypeError, "float16, float32 or float64"),
        (torch.zeros(4, 3, device="meta"), TypeError, "on the CPU"),
        ("text", (TypeError, AttributeError), "str"),
    ],
)
def test_an_error_of_one_rank_is_raised_on_all(any_comm, x, error, text, culprit):
    comm, layer = any_comm, sync(any_comm)
    bad = comm.rank == culprit % comm.size
    with pytest.raises(error if bad else SyncMismatchError, match=text):
        layer(x if bad else torch.randn(4, 3))
    layer(torch.randn(4, 3)).sum().backward()


def test_a_dtype_of_one_rank_is_raised_on_all(any_comm):
    comm, layer = any_comm, sync(any_comm)
    x = torch.randn(4, 3)
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    for dtype in (torch.float64, torch.bfloat16):
        with pytest.raises(SyncMismatchError, match=r"float64|bfloat16"):
            layer(x.to(dtype) if comm.rank == 0 else x)


def test_layers_in_another_order_raise_on_all(any_comm):
    comm = any_comm
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    model = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)), comm=comm)
    with pytest.raises(SyncMismatchError, match=r"layer 'torch\.SyncBatchNorm #\d+' against 'torch"):
        model[int(comm.rank > 0)](torch.randn(4, 3))


def test_a_tensor_that_changes_on_one_rank_before_the_backward_raises_on_all(any_comm):
    comm, layer = any_comm, sync(any_comm)
    x = torch.randn(4, 3)
    y = layer(x)
    bad = comm.rank == comm.size - 1
    if bad:
        x.mul_(2)
    with pytest.raises(RuntimeError if bad else SyncMismatchError, match="modified by an inplace operation"):
        y.sum().backward()
    layer(x).sum().backward()


def test_second_derivatives_are_synchronized(any_comm, rng):
    comm = any_comm
    own = parts(comm, lambda rank: rank + 2)
    mine, count = own[comm.rank], own[-1].stop
    x, dy, u = (tensor(rng, (count, 3, 2)) for _ in range(3))

    def penalty(layer, rows):
        """Return the gradients of a function of the gradients."""
        inputs = [x[rows].clone().requires_grad_(), dy[rows].clone().requires_grad_()]
        y = layer(inputs[0])
        first = torch.autograd.grad(y, [inputs[0], *layer.parameters()], inputs[1].tanh(), create_graph=True)
        function = (first[0] * u[rows]).sum() + (first[0] ** 3).sum()
        return torch.autograd.grad(function, [*inputs, layer.weight])

    layer = random_parameters(sync(comm, dtype=torch.float64), rng)
    whole = nn.BatchNorm1d(3).double()
    whole.load_state_dict(layer.state_dict())
    found, expected = penalty(layer, mine), penalty(whole, slice(None))
    close(found[0], expected[0][mine])
    close(found[1], expected[1][mine])
    close(total(comm, found[2]), expected[2])
    if comm.size > 1:
        local = nn.BatchNorm1d(3).double()
        local.load_state_dict(layer.state_dict())
        assert not np.allclose(penalty(local, mine)[0], found[0], rtol=1e-2)


@pytest.mark.timeout(150)  # it imports the compiler
def test_compiled_layers_communicate(comm, rng):
    if comm.size != 2:
        pytest.skip("two ranks show it, and the compiler starts slowly")
    x = tensor(rng, (3 * comm.size, 3), torch.float32)
    mine = slice(3 * comm.rank, 3 * comm.rank + 3)
    layer = random_parameters(sync(comm), rng)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    for _ in range(2):
        for found, expected in zip(run(compiled, x[mine], x[mine]), run(layer, x[mine], x[mine]), strict=True):
            same_bits(found, expected)
        same_bits(compiled.running_var, layer.running_var)
    torch._dynamo.reset()


def test_the_default_communicator(comm, rng, process_group):
    """MPI's world, if it has several ranks, comes before the default process group."""
    layer = SyncBatchNorm(3)
    assert isinstance(layer.comm, type(comm) if comm.size > 1 else TorchComm)
    assert layer.comm.size == comm.size
    over_gloo = SyncBatchNorm(3, process_group=process_group)
    assert isinstance(over_gloo.comm, TorchComm)
    assert over_gloo.process_group is process_group
    assert over_gloo.comm is SyncBatchNorm(3, process_group=process_group).comm
    x = tensor(rng, (3 * comm.size, 3), torch.float32)[3 * comm.rank :][:3]
    same_bits(layer(x), over_gloo(x))
    with pytest.raises(TypeError, match=r"must be a torch\.distributed\.ProcessGroup, .* got str 'world'"):
        SyncBatchNorm(3, process_group="world")
