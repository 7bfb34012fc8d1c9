from __future__ import annotations

import math

import numpy as np
import pytest

from syncbn.nn import ConstantSchedule, CosineSchedule, StepSchedule


def test_constant():
    schedule = ConstantSchedule(0.4)
    assert [schedule(step) for step in (0, 1, 10**9)] == [0.4] * 3


def test_step_falls_at_each_milestone():
    schedule = StepSchedule(0.8, milestones=(3, 5), factor=0.5)
    assert [schedule(step) for step in range(7)] == [0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_cosine_falls_from_lr_to_final():
    schedule = CosineSchedule(1.0, total_steps=8, final_lr=0.2)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    np.testing.assert_allclose([schedule(step) for step in range(9)], expected, rtol=1e-14)
    assert schedule(4) == pytest.approx(0.6)
    assert schedule(8) == schedule(80) == 0.2


def test_cosine_starts_after_the_warmup():
    with_warmup = CosineSchedule(1.0, 4, total_steps=12)
    without_warmup = CosineSchedule(1.0, total_steps=8)
    assert [with_warmup(step) for step in range(4, 14)] == [without_warmup(step) for step in range(10)]


@pytest.mark.parametrize(
    "schedule",
    [ConstantSchedule(0.8, 4), StepSchedule(0.8, 4, milestones=(6,)), CosineSchedule(0.8, 4, total_steps=9)],
    ids=repr,
)
def test_warmup_rises_linearly_to_lr(schedule):
    np.testing.assert_allclose([schedule(step) for step in range(5)], [0.2, 0.4, 0.6, 0.8, 0.8], rtol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (ConstantSchedule, {"lr": -1.0}, "lr must be"),
        (ConstantSchedule, {"lr": 1.0, "warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        (StepSchedule, {"lr": 1.0, "milestones": (5, 3)}, "milestones must be"),
        (StepSchedule, {"lr": 1.0, "milestones": (0, 3)}, "milestones must be"),
        (StepSchedule, {"lr": 1.0, "warmup_steps": 4, "milestones": (3,)}, r"milestones \(3,\) .*4"),
        (StepSchedule, {"lr": 1.0, "factor": math.nan}, "factor must be"),
        (
            CosineSchedule,
            {"lr": 1.0, "warmup_steps": 5, "total_steps": 5},
            "total_steps must exceed warmup_steps 5",
        ),
        (CosineSchedule, {"lr": 1.0, "total_steps": 5, "final_lr": -0.1}, "final_lr must be"),
    ],
)
def test_bad_arguments(schedule, arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule(**arguments)


def test_bad_steps():
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        ConstantSchedule(1.0)(-1)
    with pytest.raises(TypeError, match=r"step must be an integer, got 0\.5"):
        ConstantSchedule(1.0)(0.5)


def test_milestones_of_a_list_are_those_of_a_tuple():
    """Descriptions are compared when a training is resumed."""
    schedule = StepSchedule(0.1, milestones=[2, 4])
    assert schedule == StepSchedule(0.1, milestones=(2, 4))
    assert repr(schedule) == repr(StepSchedule(0.1, milestones=(2, 4)))
    assert hash(schedule) == hash(StepSchedule(0.1, milestones=(2, 4)))
