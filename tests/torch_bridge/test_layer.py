"""The layer in one process, compared with PyTorch's batch normalization."""

from __future__ import annotations

import copy
import gc
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_bridge.cases import CLASSES, FORMATS, close, random_parameters, run, same_bits, tensor, torch

# isort: split
from syncbn import BatchNorm as LocalBatchNorm
from syncbn import SerialComm
from syncbn import functional as F
from syncbn.nn import Dense, Sequential
from syncbn.torch import BatchNorm, SyncBatchNorm, TorchComm, average_gradients, convert_sync_batchnorm
from syncbn.train import sum_gradients

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SHAPES = [(6, 3), (4, 3, 5), (4, 3, 5, 2), (2, 3, 4, 2, 3)]


def pair(shape, rng, parameters=torch.float64, **options):
    """Return a layer and PyTorch's, with equal parameters."""
    ours = random_parameters(SyncBatchNorm(shape[1], dtype=parameters, **options), rng)
    theirs = CLASSES[len(shape)](shape[1], dtype=parameters, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_and_evaluation_equal_pytorch(shape, dtype, rng):
    ours, theirs = pair(shape, rng, torch.float64 if dtype == torch.float64 else torch.float32)
    for _ in range(2):
        x, dy = tensor(rng, shape, dtype), tensor(rng, shape, dtype)
        for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
            close(found, expected, dtype)
            assert found.dtype == expected.dtype
    for name, buffer in theirs.named_buffers():
        close(getattr(ours, name).double(), buffer.double(), dtype)
    ours.eval(), theirs.eval()
    for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
        close(found, expected, dtype)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}, {"bias": False}])
@pytest.mark.parametrize("training", [True, False])
def test_layers_without_some_parts(options, training, rng):
    ours, theirs = pair((4, 3, 5), rng, **options)
    ours.train(training), theirs.train(training)
    x, dy = tensor(rng, (4, 3, 5)), tensor(rng, (4, 3, 5))
    for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
        close(found, expected)


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple),
    dtype=st.sampled_from(DTYPES),
    channels_last=st.booleans(),
    sliced=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_dtype_and_memory_format(shape, dtype, channels_last, sliced, seed):
    rng = np.random.default_rng(seed)
    shape = (shape[0] + 1, *shape[1:])
    x, dy = tensor(rng, (2 * shape[0], *shape[1:]), dtype), tensor(rng, shape, dtype)
    if channels_last and len(shape) in FORMATS:
        x = x.contiguous(memory_format=FORMATS[len(shape)])
    x = x[::2] if sliced else x[: shape[0]]
    ours, theirs = pair(shape, rng, torch.float64 if dtype == torch.float64 else torch.float32)
    results = run(ours, x, dy)
    assert results[0].dtype == results[1].dtype == dtype
    assert results[0].stride() == results[1].stride() == torch.empty_like(x).stride()
    double = theirs.double()
    for found, expected in zip(results, run(double, x.double(), dy.double()), strict=True):
        close(found, expected * (1 if found.numel() else 0), dtype)


@pytest.mark.parametrize("ndim", [4, 5])
def test_channels_last_is_kept_and_has_the_bits_of_contiguous_memory(ndim, rng):
    shape = (3, 5, 4, 2, 3)[:ndim]
    layer = random_parameters(SyncBatchNorm(5), rng)
    x, dy = tensor(rng, shape, torch.float32), tensor(rng, shape, torch.float32)
    last = [each.contiguous(memory_format=FORMATS[ndim]) for each in (x, dy)]
    for found, expected in zip(run(layer, *last), run(layer, x, dy), strict=True):
        same_bits(found, expected)
    y, dx, *_ = run(layer, *last)
    assert y.is_contiguous(memory_format=FORMATS[ndim])
    assert dx.is_contiguous(memory_format=FORMATS[ndim])


def test_results_have_the_bits_of_the_numpy_function(rng):
    layer = random_parameters(SyncBatchNorm(3), rng)
    x, dy = tensor(rng, (4, 3, 5, 6), torch.float32), tensor(rng, (4, 3, 5, 6), torch.float32)
    y, _, backward = F.batch_norm(x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy())
    for found, expected in zip(run(layer, x, dy), [y, *backward(dy.numpy())], strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_neither_x_nor_y_is_copied(rng, monkeypatch):
    from syncbn.torch import operators

    seen = []
    original = operators.plans.batch_norm
    monkeypatch.setattr(operators.plans, "batch_norm", lambda *a: seen.append((a[0], a[9])) or original(*a))
    x = tensor(rng, (4, 3, 5), torch.float32)
    y = SyncBatchNorm(3)(x)
    ((array, out),) = seen
    assert array.__array_interface__["data"][0] == x.data_ptr()
    assert out.__array_interface__["data"][0] == y.data_ptr()


def function(layer):
    """Return a layer as a function of x, weight and bias."""
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    return call


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2, 2)])
def test_first_and_second_derivatives(shape, training, options, rng):
    layer = random_parameters(SyncBatchNorm(2, dtype=torch.float64, **options), rng).train(training)
    inputs = [tensor(rng, shape), *(p.detach().clone() for p in layer.parameters())]
    inputs = [each.requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(function(layer), inputs)
    assert torch.autograd.gradgradcheck(function(layer), inputs)


def test_the_gradient_check_finds_a_wrong_second_derivative(rng, monkeypatch):
    from syncbn.torch import operators

    def wrong(*arguments):
        ddy, dx, dweight = original(*arguments)
        return ddy, 1.01 * dx, dweight

    original = operators.second_gradients
    monkeypatch.setattr(operators, "second_gradients", wrong)
    layer = SyncBatchNorm(2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradgradcheck(layer, tensor(rng, (4, 2)).requires_grad_())


def test_a_third_derivative_says_that_there_is_none(rng):
    x = tensor(rng, (4, 2)).requires_grad_()
    (first,) = torch.autograd.grad((SyncBatchNorm(2, dtype=torch.float64)(x) ** 3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**3).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="not third ones"):
        torch.autograd.grad(second.sum(), x)


def test_transformations_of_torch_func(rng):
    layer, x = SyncBatchNorm(3, track_running_stats=False, dtype=torch.float64), tensor(rng, (4, 3))

    def loss(x):
        return layer(x).pow(3).sum()

    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(y), y)
    close(torch.func.grad(loss)(x), expected)
    close(torch.func.vjp(layer, x)[1](x)[0], torch.autograd.grad(layer(y), y, x)[0])


@pytest.mark.parametrize("momentum", [None, 0.0, 0.1, 1.0])
def test_running_statistics_over_several_batches(momentum, rng):
    ours, theirs = pair((4, 3), rng, momentum=momentum)
    for _ in range(3):
        x = tensor(rng, (4, 3))
        ours(x), theirs(x)
    for name, buffer in theirs.named_buffers():
        close(getattr(ours, name).double(), buffer.double(), torch.float64)


def test_half_precision_parameters_and_buffers(rng):
    ours, theirs = pair((8, 3, 4), rng, torch.bfloat16)
    x, dy = tensor(rng, (8, 3, 4), torch.bfloat16), tensor(rng, (8, 3, 4), torch.bfloat16)
    for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
        assert found.dtype == torch.bfloat16
        close(found, expected)
    close(ours.running_var, theirs.running_var)


def test_under_autocast(rng):
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), SyncBatchNorm(4))
    x = tensor(rng, (6, 5), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    y.float().pow(2).sum().backward()
    assert model[1].weight.grad.dtype == torch.float32
    close(y, torch.nn.functional.batch_norm(model[0](x), None, None, training=True), torch.bfloat16)


def test_without_gradients(rng):
    layer, x = SyncBatchNorm(3), tensor(rng, (4, 3), torch.float32)
    with torch.no_grad():
        assert not layer(x).requires_grad
    with torch.inference_mode():
        assert not layer(x).requires_grad
    assert layer.num_batches_tracked == 2
    layer.requires_grad_(False)
    assert not layer(x).requires_grad
    assert layer(x.requires_grad_()).requires_grad


def test_the_same_layer_twice_in_one_graph(rng):
    ours, theirs = pair((4, 3), rng)
    x, dy = tensor(rng, (4, 3)), tensor(rng, (4, 3))
    twice = [torch.nn.Sequential(layer, torch.nn.Tanh(), layer) for layer in (ours, theirs)]
    for found, expected in zip(run(twice[0], x, dy), run(twice[1], x, dy), strict=True):
        close(found, expected)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing_and_hooks_on_saved_tensors(use_reentrant, rng):
    from torch.utils.checkpoint import checkpoint

    layer = random_parameters(SyncBatchNorm(3, dtype=torch.float64), rng)
    x, dy = tensor(rng, (4, 3)), tensor(rng, (4, 3))
    expected = run(layer, x, dy)
    x.requires_grad_()
    checkpoint(layer, x, use_reentrant=use_reentrant).backward(dy)
    same_bits(x.grad, expected[1])
    assert layer.num_batches_tracked == 2  # one of the call above, and one of this
    x.grad = None
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.clone(), lambda packed: packed.clone()):
        y = layer(x)
    y.backward(dy)
    same_bits(x.grad, expected[1])


def test_a_tensor_that_changes_before_the_backward_is_an_error(rng):
    layer, x = SyncBatchNorm(3, dtype=torch.float64), tensor(rng, (4, 3))
    y = layer(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = layer.eval()(x)
    assert layer.train()(x).shape == y.shape
    y.sum().backward()


def test_the_backward_of_an_evaluation_keeps_its_statistics(rng):
    layer, x = SyncBatchNorm(3, dtype=torch.float64), tensor(rng, (4, 3)).requires_grad_()
    y = layer.eval()(x)
    (before,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    layer.train()(x)
    same_bits(torch.autograd.grad(y.sum(), x)[0], before)


def test_copies_and_files(rng):
    layer = random_parameters(SyncBatchNorm(3), rng)
    x = tensor(rng, (4, 3), torch.float32)
    layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for clone in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert clone._group is layer._group
        before = layer.running_mean.clone()
        same_bits(clone.running_mean, before)
        y = clone(x)
        same_bits(layer.running_mean, before)
        same_bits(y, copy.deepcopy(layer)(x))


def test_state_moves_between_pytorch_and_numpy_layers(rng):
    import syncbn

    layer = random_parameters(SyncBatchNorm(3), rng)
    layer(tensor(rng, (4, 3), torch.float32))
    torch.nn.BatchNorm2d(3).load_state_dict(layer.state_dict())
    array_layer = syncbn.BatchNorm(3)
    array_layer.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(array_layer.running_var, layer.running_var.numpy())
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in array_layer.state_dict().items()})


def test_the_class_is_found_by_tools_and_takes_any_number_of_axes():
    layer = SyncBatchNorm(3, 1e-3, 0.2, True, True, None, "cpu", torch.float64)
    assert isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
    assert not isinstance(layer, torch.nn.SyncBatchNorm), "DistributedDataParallel refuses it on CPUs"
    assert list(layer.state_dict()) == list(torch.nn.BatchNorm2d(3).state_dict())
    assert (layer.eps, layer.momentum, layer.weight.dtype) == (1e-3, 0.2, torch.float64)
    with pytest.raises(ValueError, match="2 or more axes"):
        BatchNorm(3)(torch.zeros(3))


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(4, 2), ValueError, "x must have 3 channels"),
        (torch.zeros(3), ValueError, "2 or more axes"),
        (torch.zeros(4, 3, dtype=torch.int64), TypeError, r"float16, float32 or float64, got int64: .* by \.float\(\)"),
        (np.zeros((4, 3), np.float32), TypeError, r"x must be a tensor .*, got ndarray: .* by torch\.from_numpy\(\)"),
        (torch.zeros(1, 3), ValueError, "more than 1 value per channel"),
        (torch.zeros(4, 3, device="meta"), TypeError, "on the CPU, got one on meta"),
    ],
)
def test_invalid_inputs(x, error, text):
    with pytest.raises(error, match=text):
        SyncBatchNorm(3)(x)


@pytest.mark.parametrize("make", [TorchComm, lambda group: SyncBatchNorm(3, process_group=group)])
@pytest.mark.parametrize(("group", "shown"), [(4, "int 4"), ([0, 1], r"list \[0, 1\]"), ("gloo", "str 'gloo'")])
def test_a_process_group_that_is_none(make, group, shown):
    """The error is this one without an initialized torch.distributed too."""
    with pytest.raises(TypeError, match=f"process_group must be a torch.distributed.ProcessGroup, .*got {shown} "):
        make(group)


def test_second_derivatives_with_a_mask_are_refused():
    from syncbn.torch.stateless import normalize

    x = torch.randn(4, 3, requires_grad=True)
    y, *_ = normalize(x, None, None, torch.tensor([True, True, False, True]), 1e-5, 1, None, "")
    (dx,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="only without a mask"):
        dx.sum().backward()


def test_the_backward_of_a_layer_that_is_gone():
    """The graph keeps the communicator of its layer."""
    x = torch.randn(4, 3, requires_grad=True)
    y = SyncBatchNorm(3, comm=SerialComm())(x)
    gc.collect()
    (dx,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    gc.collect()
    dx.pow(2).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: SyncBatchNorm("3"), "num_features must be an integer, got '3'"),
        (lambda: SyncBatchNorm(3, eps=-1), "eps must be finite and at least 0, got -1"),
        (lambda: SyncBatchNorm(3, momentum="0.1"), r"momentum must be in \[0, 1\] or None, got '0\.1'"),
        (
            lambda: SyncBatchNorm(3)(torch.ones(2, 5, 3)),
            r"tensor of PyTorch as x\.movedim\(-1, 1\)",
        ),
        (
            lambda: average_gradients(Dense(4, 3)),
            r"expected a torch\.nn\.Module, got Dense of syncbn",
        ),
        (lambda: average_gradients(iter(())), "expected a torch.nn.Module, got tuple_iterator"),
        (lambda: convert_sync_batchnorm(LocalBatchNorm(3)), r"torch\.nn\.Module, got BatchNorm of syncbn"),
        (lambda: sum_gradients(torch.nn.Sequential()), "got Sequential of PyTorch: use the functions of syncbn.torch"),
        (lambda: Sequential(SyncBatchNorm(3)), "expects a Module at position 0, got SyncBatchNorm of PyTorch"),
    ],
)
def test_mistakes(call, text):
    with pytest.raises((TypeError, ValueError), match=text):
        call()
