"""The weight standardization layer, a wrapper of a layer with a weight."""

from __future__ import annotations

from collections.abc import Callable

from syncbn._core.checks import check_axis, check_eps
from syncbn.functional.weight_standardization import weight_standardization
from syncbn.layers._parametrized import ParametrizedModule
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.typing import FloatArray


class WeightStandardization(ParametrizedModule):
    r"""A wrapper that gives the weights w of each output of a layer zero mean and unit variance.

    Not collective.

    .. math:: w = \frac{v - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}}

    It is used with a normalizer after the layer, most often `GroupNorm`.

    Parameters
    ----------
    module : Module
        Layer with a `Parameter` called ``name``, such as Dense or Conv2d. Initially v is that parameter.
    name : str
        Name of the parameter that is standardized. In ``state_dict`` it is the key of v, so that states are exchanged
        with layers without standardization, and with implementations that standardize in their forward.
    axis : int
        Axis that is not reduced: each of its indices has a mean μ and a variance var (0: each output).
    eps : float
        Constant added to the variance, finite and at least 0.

    Attributes
    ----------
    v : Parameter
        Weight before standardization.

    Raises
    ------
    ValueError, TypeError
        The module has no such parameter, the parameter has no such axis, or a single value for each of its indices.

    See Also
    --------
    syncbn.functional.weight_standardization : The function.
    syncbn.GroupNorm : Often used together.

    References
    ----------
    Qiao, Wang, Liu, Shen & Yuille 2019, arXiv:1903.10520.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import GroupNorm, WeightStandardization, nn
    >>> model = nn.Sequential(WeightStandardization(nn.Conv2d(3, 8, 3)), GroupNorm(2, 8))
    >>> y, backward = model(np.ones((2, 3, 5, 5), np.float32))
    >>> y.shape
    (2, 8, 3, 3)
    """

    def __init__(self, module: Module, name: str = "weight", axis: int = 0, eps: float = 1e-5) -> None:
        super().__init__(module, name)
        weight = self._hidden
        self.axis: int = check_axis(axis, weight.data.ndim, "axis")
        self.eps: float = check_eps(eps)
        self.v: Parameter = Parameter(weight.data, decay=weight.decay)
        self._compute()

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"name={self.name!r}, axis={self.axis}, eps={self.eps}"

    def _sources(self) -> dict[str, Parameter]:
        return {"": self.v}

    def _compute(self) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, ...]]]:
        w, gradient = weight_standardization(self.v.data, axis=self.axis, eps=self.eps)
        return w, lambda dw: (gradient(dw),)
