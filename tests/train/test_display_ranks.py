"""On ranks: only rank 0 shows the progress, and the training accuracy is that of all samples."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ranks


def test_rank_0_shows_progress(comm, build, data, capsys):
    build(comm=comm).fit(*data, 2, progress=True)
    assert len(capsys.readouterr().err.splitlines()) == (2 if comm.rank == 0 else 0)


def test_training_accuracy_is_that_of_all_ranks(comm, build, data):
    together, alone = build(comm=comm), build()
    together.fit(*data, 2)
    alone.fit(*data, 2)
    assert [r.train_error for r in together.history] == [r.train_error for r in alone.history]


def test_every_rank_may_predict(comm, build, data):
    trainer = build(comm=comm)
    trainer.fit(*data, 1)
    if comm.rank == comm.size - 1:
        assert trainer.predict(data[0]).shape == (55, 3)
    comm.barrier()
