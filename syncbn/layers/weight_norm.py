"""The weight normalization layer, a wrapper of a layer with a weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_axis
from syncbn.functional.weight_norm import scaled_norms, weight_norm
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.typing import Backward, FloatArray


class WeightNorm(Module):
    """A wrapper that replaces the weight w of a layer by a trainable length g and a trainable direction v.

    Not collective.

        w = g·v/‖v‖

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
        Direction, of the weight's shape.

    Raises
    ------
    ValueError, TypeError
        The module has no such parameter, or the parameter has no such axis.

    References
    ----------
    Salimans & Kingma 2016, arXiv:1602.07868.
    """

    def __init__(self, module: Module, name: str = "weight", axis: int | None = 0) -> None:
        super().__init__()
        weight = getattr(module, name, None)
        if not isinstance(weight, Parameter):
            raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
        self.module = module
        self.name = name
        self.axis = axis
        ndim = weight.data.ndim
        kept = None if axis is None else check_axis(axis, ndim, "axis")
        with np.errstate(all="ignore"):  # a length beyond the range of the dtype is infinite
            _, norms, exponent = scaled_norms(weight.data, tuple(i for i in range(ndim) if i != kept))
            length = np.ldexp(norms, exponent).reshape(() if kept is None else norms.shape)
            self.g = Parameter(np.asarray(length, weight.data.dtype), decay=weight.decay)
        # Zeros have no direction: with v = 1 and g = 0, w is still 0, and g receives a gradient.
        self.v = Parameter(np.where(norms == 0, weight.data.dtype.type(1), weight.data), decay=weight.decay)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"name={self.name!r}, axis={self.axis}"

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Compute w, and return y of the module and its backward, which adds to the gradients of g and v."""
        weight: Parameter = getattr(self.module, self.name)
        weight.data, weight_backward = weight_norm(self.v.data, self.g.data, axis=self.axis)
        weight.version = self._version()
        y, module_backward = self.module(x)

        def backward(dy: FloatArray) -> FloatArray:
            weight.grad = None
            weight.version = self._version()  # so the module's backward raises if g or v have changed
            dx = module_backward(dy)
            if weight.grad is not None:
                dv, dg = weight_backward(weight.grad)
                self.v.add_grad(dv)
                self.g.add_grad(dg)
                weight.grad = None
            return dx

        return y, backward

    def _version(self) -> int:
        return self.v.version + self.g.version

    def _all_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters of the module under their own names, with g and v instead of the weight."""
        hidden = getattr(self.module, self.name)
        for name, parameter in self.module._all_parameters(prefix):
            if parameter is hidden:
                yield f"{name}_g", self.g
                yield f"{name}_v", self.v
            else:
                yield name, parameter

    def _all_buffers(self, prefix: str, transient: bool = True) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the buffers of the module under their own names."""
        return self.module._all_buffers(prefix, transient)
