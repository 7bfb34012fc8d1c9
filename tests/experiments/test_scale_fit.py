"""Fits recover the parameters from which times were computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from syncbn.experiments.scale.algorithms import as_mpich, recursive_doubling
from syncbn.experiments.scale.fit import Timing, fit_call, fit_link, fit_machine, fit_sigma
from syncbn.experiments.scale.links import Hockney
from syncbn.experiments.scale.measurement import SIZES, Measurement
from syncbn.experiments.scale.model import Machine, allreduce_time
from syncbn.experiments.scale.published import PUBLISHED
from syncbn.experiments.scale.skew import NormalSkew

TRUE = Machine(Hockney(1.7, 0.0004), 0.00002, 0.9)


def timings(machine: Machine, counts: tuple[int, ...], noise: np.ndarray | None = None) -> list[Timing]:
    pairs = [(ranks, nbytes) for ranks in counts for nbytes in SIZES]
    factors = np.ones(len(pairs)) if noise is None else noise[: len(pairs)]
    return [
        Timing(ranks, nbytes, factor * allreduce_time(machine, as_mpich, ranks, nbytes))
        for (ranks, nbytes), factor in zip(pairs, factors, strict=True)
    ]


@pytest.mark.parametrize("counts", [(2,), (2, 3, 4), (8,)])
def test_parameters_are_recovered(counts: tuple[int, ...]) -> None:
    one_rank = [Timing(1, 8, TRUE.software)]
    found = fit_machine(one_rank + timings(TRUE, counts), as_mpich, TRUE.gamma)
    assert found.link.alpha == pytest.approx(TRUE.link.alpha, rel=1e-6)
    assert found.link.beta == pytest.approx(TRUE.link.beta, rel=1e-6)
    assert found.software == pytest.approx(TRUE.software, rel=1e-6)
    assert found.gamma == TRUE.gamma


def test_parameters_are_recovered_through_noise(rng: np.random.Generator) -> None:
    noise = np.exp(rng.normal(scale=0.05, size=100))
    found = fit_machine([Timing(1, 8, TRUE.software), *timings(TRUE, (2, 4, 8), noise)], as_mpich, TRUE.gamma)
    assert found.link.alpha == pytest.approx(TRUE.link.alpha, rel=0.1)
    assert found.link.beta == pytest.approx(TRUE.link.beta, rel=0.1)


def test_without_times_of_one_rank_alpha_includes_the_software() -> None:
    found = fit_machine(timings(replace(TRUE, software=0.0), (2,)), as_mpich, TRUE.gamma)
    assert found.software == 0
    assert found.link.alpha == pytest.approx(TRUE.link.alpha, rel=1e-6)


def test_the_software_of_a_call_excludes_that_of_its_messages() -> None:
    # 2 layers have 4 calls; the two with 300 channels have 3 messages each, the others 2
    assert fit_call(one_rank=1000.0, local=900.0, channels=(64, 300), software=2.0) == (100 - 10 * 2) / 4
    assert fit_call(one_rank=900.0, local=1000.0, channels=(64,), software=2.0) == 0


def test_nothing_is_negative() -> None:
    falling = [Timing(2, nbytes, 10 - nbytes / 10000) for nbytes in SIZES]
    found = fit_machine(falling, as_mpich, 0.0)
    assert found.link.beta == 0
    assert found.link.alpha > 0


def test_several_ranks_are_needed() -> None:
    with pytest.raises(ValueError, match="at least 2 ranks"):
        fit_machine([Timing(1, 8, 1.0)], as_mpich)


def test_sigma_is_recovered() -> None:
    late = [
        Timing(t.ranks, t.nbytes, t.microseconds + NormalSkew(4.0).wait(t.ranks)) for t in timings(TRUE, (2, 64, 4096))
    ]
    assert fit_sigma(late, as_mpich, TRUE) == pytest.approx(4.0, rel=1e-6)
    assert fit_sigma(timings(TRUE, (2, 64)), as_mpich, TRUE) == pytest.approx(0.0, abs=1e-9)


def test_link_of_pingpong() -> None:
    link = Hockney(1.2, 0.0001)
    found = fit_link([(nbytes, link.step(nbytes)) for nbytes in SIZES])
    assert found.alpha == pytest.approx(link.alpha, rel=1e-6)
    assert found.beta == pytest.approx(link.beta, rel=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_machines(name: str) -> None:
    entry = PUBLISHED[name]
    assert entry.source
    for nbytes, microseconds in entry.pingpong:
        assert entry.link().step(nbytes) == pytest.approx(microseconds, rel=0.5)
    assert max(t.ranks for t in entry.allreduce) <= 16384
    assert all(t.ranks % entry.ranks_per_node == 0 for t in entry.allreduce)
    # The link alone may be slower than measured, because messages within nodes are faster, but not by much.
    without_skew = entry.machine().without_skew()
    for t in entry.allreduce:
        assert allreduce_time(without_skew, recursive_doubling, t.ranks, 0) < 1.5 * t.microseconds


def test_a_measurement_survives_json(rng: np.random.Generator) -> None:
    delays = (10 * rng.normal(size=1000)).tolist()
    before = Measurement(2, 1.0, [Timing(2, 8, 3.0)], 0.01, {"local": 1.0}, delays, 100.0)
    assert Measurement.from_json(before.as_json()) == before
    assert before.sigma == pytest.approx(10, rel=0.1)
    with_outliers = replace(before, delays=[*delays, 1e6, -1e6])
    assert with_outliers.sigma == pytest.approx(before.sigma, rel=0.02)
