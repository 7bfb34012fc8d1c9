"""Fixtures of all tests on ranks."""

from __future__ import annotations

import pytest
from harness.world import RANKS
from hypothesis import given
from hypothesis import strategies as st

from syncbn.comm import SerialComm


@pytest.mark.ranks
def test_comm_has_all_ranks(comm):
    assert comm.size == RANKS
    assert comm.allgather(comm.rank) == list(range(RANKS))


@pytest.mark.ranks
def test_rng_draws_the_same_numbers_on_all_ranks(comm, rng):
    assert len(set(comm.allgather(rng.standard_normal()))) == 1
    rng.standard_normal(comm.rank)  # the control: afterwards the generators differ
    assert len(set(comm.allgather(rng.standard_normal()))) == comm.size


@pytest.mark.ranks
def test_shared_path_is_one_directory(comm, shared_path):
    (shared_path / f"{comm.rank}.txt").touch()
    comm.barrier()
    assert len(list(shared_path.iterdir())) == comm.size


@pytest.mark.ranks
@given(st.lists(st.floats(allow_nan=False)), st.integers())
def test_hypothesis_draws_the_same_examples_on_all_ranks(comm, numbers, seed):
    assert len(set(comm.allgather((tuple(numbers), seed)))) == 1


def test_comm_of_one_process_does_not_need_mpi(comm):
    assert isinstance(comm, SerialComm)
