"""Formulas of the scale model against calculations by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from syncbn.comm import Communicator, SerialComm
from syncbn.experiments.bn_layers import NETWORKS, layer_channels
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import Network, Reduction
from syncbn.experiments.scale.algorithms import (
    ALGORITHMS,
    Algorithm,
    as_mpich,
    rabenseifner,
    recursive_doubling,
    ring,
)
from syncbn.experiments.scale.links import Hockney, LogGP
from syncbn.experiments.scale.messages import Direction, layer_messages
from syncbn.experiments.scale.model import Machine, allreduce_time, layer_time, share, step_time
from syncbn.experiments.scale.skew import MeasuredSkew, NormalSkew, expected_maximum
from syncbn.layers import BatchNorm, SyncBatchNorm

ALPHA, BETA, GAMMA, KAPPA = 2.0, 0.001, 0.0005, 3.0
MACHINE = Machine(Hockney(ALPHA, BETA), GAMMA, KAPPA, NormalSkew(5.0), call=7.0)
N = 6000


@pytest.mark.parametrize(
    ("algorithm", "ranks", "alphas", "sent", "added"),
    [
        (recursive_doubling, 2, 1, 1.0, 1.0),
        (recursive_doubling, 8, 3, 3.0, 3.0),
        (recursive_doubling, 3, 3, 3.0, 2.0),  # the steps before and after add 2 messages but only 1 addition
        (recursive_doubling, 6, 4, 4.0, 3.0),
        (rabenseifner, 2, 2, 1.0, 0.5),
        (rabenseifner, 4, 4, 2 * 3 / 4, 3 / 4),
        (rabenseifner, 8, 6, 2 * 7 / 8, 7 / 8),
        (rabenseifner, 3, 4, 3.0, 1.5),
        (ring, 2, 2, 1.0, 0.5),
        (ring, 3, 4, 4 / 3, 2 / 3),
        (ring, 4, 6, 6 / 4, 3 / 4),
        (as_mpich, 4, 4, 2 * 3 / 4, 3 / 4),  # more than 2,048 bytes: Rabenseifner
    ],
)
def test_allreduce(algorithm: Algorithm, ranks: int, alphas: int, sent: float, added: float) -> None:
    expected = KAPPA + alphas * ALPHA + sent * N * BETA + added * N * GAMMA
    assert allreduce_time(MACHINE, algorithm, ranks, N) == pytest.approx(expected, rel=1e-12)


def test_algorithm_of_mpich_depends_on_size() -> None:
    assert as_mpich(16, 2048) == recursive_doubling(16, 2048)
    assert as_mpich(16, 2056) == rabenseifner(16, 2056)
    assert as_mpich(1024, 4096) == recursive_doubling(1024, 4096)  # fewer numbers than ranks


@pytest.mark.parametrize("algorithm", ALGORITHMS.values())
def test_one_rank_costs_nothing(algorithm: Algorithm) -> None:
    assert allreduce_time(MACHINE, algorithm, 1, N) == 0
    assert step_time(MACHINE, algorithm, 1, (64, 128)) == 0
    assert share(0.0, 10.0) == 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_more_ranks_and_more_bytes_never_cost_less(name: str) -> None:
    algorithm = ALGORITHMS[name]
    powers = [2**k for k in range(15)]
    if name != "as MPICH":  # a change of the algorithm may reduce the cost
        for nbytes in (8, 2048, 65536):
            by_ranks = [allreduce_time(MACHINE, algorithm, ranks, nbytes) for ranks in powers]
            assert by_ranks == sorted(by_ranks)
    for ranks in (2, 3, 1000, 16384):
        by_bytes = [allreduce_time(MACHINE, algorithm, ranks, nbytes) for nbytes in (8, 512, 2048)]
        assert by_bytes == sorted(by_bytes)


def test_latency_bounds_small_messages_and_bandwidth_large_ones() -> None:
    def fastest(ranks: int, nbytes: int) -> str:
        names = ("recursive doubling", "Rabenseifner", "ring")
        return min(names, key=lambda name: allreduce_time(MACHINE, ALGORITHMS[name], ranks, nbytes))

    assert fastest(1024, 8) == "recursive doubling"
    assert fastest(1024, 10**7) == "Rabenseifner"
    assert allreduce_time(MACHINE, ring, 16384, 8) > 1000 * allreduce_time(MACHINE, recursive_doubling, 16384, 8)


def test_loggp_without_gap_equals_hockney() -> None:
    loggp = LogGP(latency=3.0, overhead=1.0, gap=2.0, gap_per_byte=0.01)
    assert loggp.step(1) == 5.0
    assert loggp.step(101) == pytest.approx(6.0)
    assert loggp.step(500) == pytest.approx(Hockney(5.0 - 0.01, 0.01).step(500))
    assert LogGP(3.0, 1.0, 9.0, 0.01).step(101) == pytest.approx(10.0)  # the gap exceeds L + 2o


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (1, 0.0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 3 / (2 * math.sqrt(math.pi))),
        (5, 1.16296447),  # Tippett 1925, also those below
        (100, 2.50759),
        (1000, 3.24144),
    ],
)
def test_expected_maximum_of_normal_numbers(ranks: int, expected: float) -> None:
    assert expected_maximum(ranks) == pytest.approx(expected, abs=1e-5)


def test_expected_maximum_grows_towards_its_asymptote() -> None:
    counts = [2**k for k in range(1, 16)]
    values = [expected_maximum(count) for count in counts]
    assert values == sorted(values)
    ratios = [value / math.sqrt(2 * math.log(count)) for value, count in zip(values, counts, strict=True)]
    assert ratios == sorted(ratios)
    assert 0.85 < ratios[-1] < 1


def test_measured_delays_agree_with_a_normal_of_the_same_spread(rng: np.random.Generator) -> None:
    delays = rng.normal(scale=7.0, size=100_000).tolist()
    for ranks in (2, 16, 256):
        assert MeasuredSkew(delays).wait(ranks) == pytest.approx(NormalSkew(7.0).wait(ranks), rel=0.02)
    assert MeasuredSkew(delays).wait(1) == NormalSkew(7.0).wait(1) == 0
    assert MeasuredSkew([0.0, 1.0]).wait(2) == 0.75  # the larger of two draws is 1 three times out of four
    assert MeasuredSkew([0.0, 1.0]).wait(10**6) == pytest.approx(1.0)


def test_messages_of_a_layer() -> None:
    assert layer_messages(64, "forward", "exact") == (("max", 2048), ("sum", 8 * 257))
    assert layer_messages(64, "backward", "exact") == (("max", 2048), ("sum", 8 * 256))
    assert layer_messages(123, "forward", "exact") == (("max", 2048), ("max", 8 * 247), ("sum", 8 * 493))
    assert layer_messages(122, "backward", "exact") == (("max", 2048), ("sum", 8 * 488))
    assert layer_messages(256, "forward", "float64") == (("max", 2048), ("sum", 8 * 1025))
    assert layer_messages(256, "backward", "float64") == (("max", 2048), ("sum", 8 * 512))


@pytest.mark.ranks
@pytest.mark.parametrize("reduction", ["exact", "float64"])
@pytest.mark.parametrize("channels", [1, 5, 122, 123, 300])
def test_bytes_sent_on_ranks_are_those_of_the_messages(
    channels: int, reduction: Reduction, comm: Communicator, rng: np.random.Generator
) -> None:
    def message_bytes(direction: Direction) -> int:
        return sum(message.nbytes for message in layer_messages(channels, direction, reduction))

    x = rng.normal(size=(4, channels)).astype(np.float32)
    layer = SyncBatchNorm(channels, comm=comm, reduction=reduction)
    start = comm.bytes_sent
    _, backward = layer(x)
    middle = comm.bytes_sent
    backward(x)
    assert middle - start == message_bytes("forward")
    assert comm.bytes_sent - middle == message_bytes("backward")


def test_time_of_a_layer_is_that_of_its_messages_and_two_waits() -> None:
    messages = [m.nbytes for d in ("forward", "backward") for m in layer_messages(300, d, "exact")]
    expected = 2 * (7.0 + MACHINE.skew.wait(16)) + sum(allreduce_time(MACHINE, ring, 16, nbytes) for nbytes in messages)
    assert layer_time(MACHINE, ring, 16, 300) == pytest.approx(expected)


def test_a_step_is_the_sum_of_its_layers() -> None:
    expected = 2 * layer_time(MACHINE, ring, 16, 64) + layer_time(MACHINE, ring, 16, 300)
    assert step_time(MACHINE, ring, 16, (64, 300, 64)) == pytest.approx(expected)


def test_groups_cost_as_much_as_that_number_of_ranks() -> None:
    def cost(ranks: int, group_size: int | None) -> float:
        return step_time(MACHINE, recursive_doubling, ranks, (64, 300), "exact", group_size)

    assert cost(4096, 8) == cost(8, None)
    assert cost(4, 8) == cost(4, None)
    assert cost(4096, 1) == 0
    assert cost(4096, 8) < cost(4096, None)


@pytest.mark.parametrize(("network", "image"), [("mlp", (1, 28, 28)), ("resnet", (1, 7, 7))])
def test_layers_are_those_of_the_networks(network: Network, image: tuple[int, int, int]) -> None:
    model = build_network(network, "bn", 0, image_shape=image, classes=10, comm=SerialComm())
    found: Sequence[int] = [
        len(module.weight.data)
        for _, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight
    ]
    assert sorted(layer_channels(NETWORKS[network])) == sorted(found)


def test_resnet50_has_53_layers() -> None:
    widths = layer_channels(NETWORKS["resnet50"])
    assert (len(widths), sum(widths)) == (53, 26560)
