"""Learning rate schedules: callables that map the step (0, 1, …) to the learning rate.

All begin with a linear warm-up: lr·(step + 1)/warmup_steps in the first ``warmup_steps`` steps (Goyal et al. 2017).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from syncbn._core.checks import check_integer, shown
from syncbn.nn._checks import check_number
from syncbn.other_libraries import unknown


@dataclass(frozen=True)
class Schedule(ABC):
    """The base class of all schedules.

    Parameters
    ----------
    lr : float
        Learning rate at the end of the warm-up.
    warmup_steps : int
        Number of steps of the warm-up; 0 means none.

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or has another type.

    See Also
    --------
    syncbn.nn.ConstantSchedule : Constant.
    syncbn.nn.StepSchedule : Steps.
    syncbn.nn.CosineSchedule : Half a cosine.

    Examples
    --------
    >>> from syncbn import nn
    >>> schedule = nn.StepSchedule(0.1, milestones=(10,))
    >>> isinstance(schedule, nn.Schedule), schedule(0)
    (True, 0.1)
    """

    lr: float
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_number("lr", self.lr)
        check_integer("warmup_steps", self.warmup_steps, minimum=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate of ``step``, counted from 0 and including the warm-up."""
        check_integer("step", step, minimum=0)
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        return self._after_warmup(step)

    if not TYPE_CHECKING:  # a type checker reports it by itself

        @property
        def step(self) -> NoReturn:
            """Raise AttributeError, which says what there is instead of PyTorch's method."""
            advice = {"step": "set optimizer.lr = schedule(step) before each step"}
            raise AttributeError(unknown(f"{type(self).__name__!r} object", "step", advice), name="step", obj=self)

    @abstractmethod
    def _after_warmup(self, step: int) -> float: ...


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """Constant learning rate after the warm-up; parameters as `Schedule`.

    See Also
    --------
    syncbn.nn.StepSchedule : Steps.
    syncbn.nn.CosineSchedule : Half a cosine.

    Examples
    --------
    >>> from syncbn import nn
    >>> schedule = nn.ConstantSchedule(0.1, warmup_steps=4)
    >>> [round(schedule(step), 3) for step in range(6)]
    [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    """

    def _after_warmup(self, step: int) -> float:  # noqa: ARG002 (the learning rate is constant)
        return self.lr


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """Stepwise schedule: lr·factorᵏ after k milestones.

    Parameters
    ----------
    lr, warmup_steps
        As `Schedule`.
    milestones : tuple of int
        Steps in ascending order, counted from the start of training, after the warm-up.
    factor : float

    See Also
    --------
    syncbn.nn.ConstantSchedule : Constant.
    syncbn.nn.CosineSchedule : Half a cosine.

    Examples
    --------
    >>> from syncbn import nn
    >>> schedule = nn.StepSchedule(0.1, milestones=(2, 4))
    >>> [round(schedule(step), 4) for step in range(6)]
    [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """

    milestones: tuple[int, ...] = ()
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("factor", self.factor)
        if not isinstance(self.milestones, (tuple, list)):
            raise TypeError(f"milestones must be a tuple of integers, such as (5, 10), got {shown(self.milestones)}")
        if not self.milestones:
            raise ValueError(
                "milestones must be the steps at which lr is multiplied by factor, such as (5, 10), got none: for a "
                "constant learning rate use ConstantSchedule"
            )
        for milestone in self.milestones:
            check_integer("a milestone", milestone, None)
        object.__setattr__(self, "milestones", tuple(self.milestones))  # equal in descriptions, and hashable
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones) < 1:
            raise ValueError(f"milestones must be positive and ascending, got {self.milestones}")
        if min(self.milestones) < self.warmup_steps:
            raise ValueError(f"milestones {self.milestones} begin before the end of the warm-up at {self.warmup_steps}")

    def _after_warmup(self, step: int) -> float:
        return self.lr * self.factor ** sum(milestone <= step for milestone in self.milestones)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Cosine schedule: final + (lr − final)·(1 + cos πt)/2, t rising from 0 after the warm-up to 1 at ``total_steps``.

    Parameters
    ----------
    lr, warmup_steps
        As `Schedule`.
    total_steps : int
        Steps of the whole training, including the warm-up.
    final_lr : float

    See Also
    --------
    syncbn.nn.ConstantSchedule : Constant.
    syncbn.nn.StepSchedule : Steps.

    References
    ----------
    Loshchilov & Hutter 2017, SGDR, without restarts.

    Examples
    --------
    >>> from syncbn import nn
    >>> schedule = nn.CosineSchedule(0.1, total_steps=4)
    >>> [round(schedule(step), 4) for step in range(5)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0]
    """

    total_steps: int = field(kw_only=True)
    final_lr: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("final_lr", self.final_lr)
        if check_integer("total_steps", self.total_steps) <= self.warmup_steps:
            raise ValueError(f"total_steps must exceed warmup_steps {self.warmup_steps}, got {self.total_steps}")

    def _after_warmup(self, step: int) -> float:
        t = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.final_lr + (self.lr - self.final_lr) * 0.5 * (1.0 + math.cos(math.pi * t))
