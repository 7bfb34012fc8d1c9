"""The networks and steps of the training benchmark are equal, without measurements."""

from __future__ import annotations

import pytest
from case import check

from syncbn import SerialComm

pytest.importorskip("torch")


def test_the_candidates_train_alike():
    from sections import training

    for case in training.cases(SerialComm()):
        check(case)
