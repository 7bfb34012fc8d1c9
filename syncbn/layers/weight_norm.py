"""The weight normalization layer, a wrapper of a layer with a weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syncbn._core.checks import check_axis
from syncbn.functional.weight_norm import scaled_norms, weight_norm
from syncbn.layers._parametrized import ParametrizedModule
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.typing import FloatArray


class WeightNorm(ParametrizedModule):
    r"""A wrapper that replaces the weight w of a layer by a trainable length g and a trainable direction v.

    Not collective.

    .. math:: w = g\,\frac{v}{\|v\|}

    Parameters
    ----------
    module : Module
        Layer with a `Parameter` called ``name``, such as Dense or Conv2d. Initially w is that parameter.
    name : str
        Name of the parameter that is replaced. In ``state_dict`` its keys are ``name_g`` and ``name_v``, as in
        ``torch.nn.utils.weight_norm``; the other keys of the module do not change.
    axis : int or None
        Axis that is not reduced: there is one norm for each of its indices (0: one for each output). None means one
        norm for the whole weight.

    Attributes
    ----------
    g : Parameter
        Length. Its size is 1 on all axes except ``axis``; it is 0-d if ``axis`` is None.
    v : Parameter
        Direction, of the weight's shape. Where the norm of v is 0, w is NaN: at first it is not 0, but training or
        ``load_state_dict`` can set it to 0.

    Raises
    ------
    ValueError, TypeError
        The module has no such parameter, or the parameter has no such axis.

    See Also
    --------
    syncbn.functional.weight_norm : The function.

    References
    ----------
    Salimans & Kingma 2016, arXiv:1602.07868.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import WeightNorm, nn
    >>> layer = WeightNorm(nn.Dense(4, 3, rng=np.random.default_rng(0)))
    >>> [name for name, _ in layer.named_parameters()]
    ['weight_g', 'weight_v', 'bias']
    >>> y, backward = layer(np.ones((2, 4), np.float32))
    """

    def __init__(self, module: Module, name: str = "weight", axis: int | None = 0) -> None:
        super().__init__(module, name)
        weight = self._hidden
        self.axis = axis
        ndim = weight.data.ndim
        kept = None if axis is None else check_axis(axis, ndim, "axis")
        with np.errstate(all="ignore"):  # a length beyond the range of the dtype is infinite
            _, norms, exponent = scaled_norms(weight.data, tuple(i for i in range(ndim) if i != kept))
            length = np.ldexp(norms, exponent).reshape(() if kept is None else norms.shape)
            self.g: Parameter = Parameter(np.asarray(length, weight.data.dtype), decay=weight.decay)
        # Zeros have no direction: with v = 1 and g = 0, w is still 0, and g receives a gradient.
        self.v: Parameter = Parameter(np.where(norms == 0, weight.data.dtype.type(1), weight.data), decay=weight.decay)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"name={self.name!r}, axis={self.axis}"

    def _sources(self) -> dict[str, Parameter]:
        return {"_g": self.g, "_v": self.v}

    def _compute(self) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, ...]]]:
        w, gradients = weight_norm(self.v.data, self.g.data, axis=self.axis)
        return w, lambda dw: gradients(dw)[::-1]
