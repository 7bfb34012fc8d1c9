"""The Adam optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from syncbn.layers.parameter import Parameter
from syncbn.nn._checks import check_number
from syncbn.nn.optimizer import Optimizer
from syncbn.typing import FloatArray


class Adam(Optimizer):
    """Adam, the rule of ``torch.optim.Adam``: p ← p − lr·m̂/(√v̂ + eps).

    The moving averages of g and g² are m ← β₁m + (1−β₁)g and v ← β₂v + (1−β₂)g², m̂ = m/(1−β₁ᵗ) and v̂ = v/(1−β₂ᵗ),
    where t counts the updates of the parameter.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Learning rate, which may be changed at any time.
    betas : pair of float
        β₁ and β₂, in [0, 1).
    eps : float
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
    syncbn.nn.SGD : Stochastic gradient descent.

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> from syncbn import Parameter
    >>> parameter = Parameter(np.ones(1))
    >>> optimizer = nn.Adam([parameter], lr=0.1)
    >>> parameter.add_grad(np.ones(1))
    >>> optimizer.step()
    >>> parameter.data.round(6)
    array([0.9])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"betas must be a pair of numbers, such as (0.9, 0.999), got {betas!r}")
        self.betas: tuple[float, float]
        self.betas = check_number("betas[0]", betas[0], below=1.0), check_number("betas[1]", betas[1], below=1.0)
        self.eps: float = eps
        self._means = self._add_buffers("exp_avg")
        self._squares = self._add_buffers("exp_avg_sq")
        self._steps = self._state["steps"] = np.zeros(len(self.parameters), np.int64)

    def _update(self, position: int, grad: FloatArray) -> FloatArray:
        beta1, beta2 = self.betas
        self._steps[position] += 1
        steps = int(self._steps[position])
        mean, square = self._means[position], self._squares[position]
        mean *= beta1
        mean += (1.0 - beta1) * grad
        square *= beta2
        square += (1.0 - beta2) * grad * grad
        scale = np.sqrt(square)
        scale /= math.sqrt(1.0 - beta2**steps)
        scale += self.eps
        update: FloatArray = self.lr / (1.0 - beta1**steps) * mean / scale
        return update
