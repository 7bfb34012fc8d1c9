"""The layer under torch.compile: one graph without a break, and the results of eager calls."""

from __future__ import annotations

import copy

import pytest

from torch_bridge.cases import random_parameters, run, same_bits, tensor, torch

# isort: split
from torch.utils.checkpoint import checkpoint

from syncbn.torch import SyncBatchNorm, operators


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests():
    yield
    torch._dynamo.reset()


@pytest.mark.timeout(150)  # the first one imports the compiler
@pytest.mark.parametrize(
    ("options", "training", "dtype"),
    [
        ({}, True, torch.float32),
        ({}, False, torch.float32),
        ({"momentum": None}, True, torch.bfloat16),
        ({"affine": False, "track_running_stats": False}, True, torch.float32),
    ],
)
def test_one_graph_has_the_results_of_eager_calls(options, training, dtype, rng):
    layer = random_parameters(SyncBatchNorm(3, **options), rng).train(training)
    other = copy.deepcopy(layer)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for batch in (4, 6):
        x, dy = tensor(rng, (batch, 3, 5), dtype), tensor(rng, (batch, 3, 5), dtype)
        for found, expected in zip(run(compiled, x, dy), run(layer, x, dy), strict=True):
            same_bits(found, expected)
        for (_, found), (_, expected) in zip(other.named_buffers(), layer.named_buffers(), strict=True):
            same_bits(found, expected)
    with torch.no_grad():
        same_bits(compiled(x), layer(x))


@pytest.mark.timeout(150)
def test_checkpointing_in_a_graph_updates_running_statistics_once(rng):
    layer = SyncBatchNorm(3)
    expected = copy.deepcopy(layer)
    compiled = torch.compile(lambda x: checkpoint(layer, x, use_reentrant=False), fullgraph=True, backend="aot_eager")
    x = tensor(rng, (4, 3), torch.float32).requires_grad_()
    compiled(x).sin().sum().backward()
    expected(x)
    for name, value in expected.state_dict().items():
        same_bits(layer.state_dict()[name], value)


@pytest.mark.timeout(300)  # the compiler of PyTorch takes 20 s to start, and minutes on a busy machine
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of PyTorch itself
def test_a_network_in_channels_last_by_the_default_backend(rng):
    conv = torch.nn.Conv2d(2, 3, 3)
    network = torch.nn.Sequential(conv, SyncBatchNorm(3), torch.nn.ReLU(), SyncBatchNorm(3))
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True)
    x = tensor(rng, (2, 2, 6, 5), torch.float32).contiguous(memory_format=torch.channels_last)
    dy = tensor(rng, (2, 3, 4, 3), torch.float32)
    for found, expected in zip(run(compiled, x, dy), run(network, x, dy), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [operators.EVALUATION, operators.GRAD])
def test_operators_pass_the_checks_of_pytorch(mode, rng):
    """Schemas, fake implementations (shapes and strides), registration of gradients, and the dispatcher of AOT."""
    x = tensor(rng, (4, 3, 2)).requires_grad_()
    weight, bias = (tensor(rng, (1, 3))[0].requires_grad_() for _ in range(2))
    statistics = (torch.zeros(3), torch.ones(3)) if mode == operators.EVALUATION else (None, None)
    settings = 1e-5, 3, 0, "layer", mode
    arguments = (x, weight, bias, None, *statistics, None, *settings)
    torch.library.opcheck(torch.ops.syncbn.batch_norm.default, arguments)
    _, moments, numbers = torch.ops.syncbn.batch_norm(*arguments)
    saved = x, weight, None, None, moments.detach(), numbers, True, mode == operators.EVALUATION
    torch.library.opcheck(torch.ops.syncbn.batch_norm_backward.default, (torch.ones_like(x), *saved, *settings))


def test_a_graph_break_would_be_an_error(rng):
    class Breaks(SyncBatchNorm):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(Breaks(3), fullgraph=True, backend="aot_eager")(tensor(rng, (4, 3)))
