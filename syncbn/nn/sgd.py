"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from syncbn._core.checks import check_flag
from syncbn.layers.parameter import Parameter
from syncbn.nn.optimizer import Optimizer
from syncbn.typing import FloatArray


class SGD(Optimizer):
    """Stochastic gradient descent, the rule of ``torch.optim.SGD``: v ← μv + g, p ← p − lr·v.

    With Nesterov momentum p ← p − lr·(g + μv).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Learning rate, which may be changed at any time.
    momentum : float
        μ, in [0, 1).
    nesterov : bool
        Whether to use Nesterov momentum; requires a momentum above 0.
    weight_decay : float
        λ; g is the gradient + λ·p, except for parameters whose ``decay`` is False.

    Raises
    ------
    ValueError
        A hyperparameter is out of range, or there are no parameters or duplicates.
    TypeError
        An element of ``parameters`` is not a Parameter.

    See Also
    --------
    syncbn.nn.Adam : Adaptive moments.
    syncbn.nn.CosineSchedule : A learning rate that decreases.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> from syncbn import Parameter
    >>> parameter = Parameter(np.ones(1))
    >>> optimizer = nn.SGD([parameter], lr=0.1, momentum=0.9)
    >>> parameter.add_grad(np.ones(1))
    >>> optimizer.step()
    >>> parameter.data
    array([0.9])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum: float = momentum
        self.nesterov: bool = check_flag("nesterov", nesterov)
        if nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, got 0")
        self._velocities = self._add_buffers("momentum_buffer") if self.momentum else []

    def _update(self, position: int, grad: FloatArray) -> FloatArray:
        if not self.momentum:
            return self.lr * grad
        if not self._velocities:  # the momentum was 0 before
            self._velocities = self._add_buffers("momentum_buffer")
        velocity = self._velocities[position]
        velocity *= self.momentum
        velocity += grad
        return self.lr * (grad + self.momentum * velocity if self.nesterov else velocity)
