"""The base class of optimizers, with parameters, learning rate and state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syncbn._core.checks import shown
from syncbn.layers._losses import forget_losses
from syncbn.layers._state import check_state
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.nn._checks import check_number
from syncbn.other_libraries import OPTIMIZATION, check_assignment
from syncbn.pitfalls import see
from syncbn.typing import FloatArray

_BOUNDS = {"momentum": 1.0, "weight_decay": math.inf, "eps": math.inf}
"""Hyperparameters that are numbers of at least 0, and what they must be below."""

_NOT_PARAMETERS = (
    "an optimizer expects syncbn Parameters, got {}: pass model.parameters(), or a list of Parameters"
    + see("optimizers")
)


class Optimizer:
    """The base class of `SGD` and `Adam`.

    Parameters
    ----------
    parameters : iterable of Parameter
        Parameters in the order of the state, which must not change between saving and loading.
    lr : float
        Learning rate, which may be changed at any time.
    weight_decay : float
        λ; adds λ·p to the gradient of every parameter p whose ``decay`` is True.

    Raises
    ------
    ValueError
        A hyperparameter is out of range, or there are no parameters or duplicates.
    TypeError
        An element of ``parameters`` is not a Parameter.

    See Also
    --------
    syncbn.nn.SGD : Stochastic gradient descent.
    syncbn.nn.Adam : Adaptive moments.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> model = nn.Dense(2, 1)
    >>> optimizer = nn.SGD(model.parameters(), lr=0.1)
    >>> y, backward = model(np.ones((3, 2), np.float32))
    >>> dx = backward(np.ones_like(y))
    >>> optimizer.step()
    >>> optimizer.zero_grad()
    >>> optimizer.lr = 0.01
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0) -> None:
        if isinstance(parameters, Module) or not isinstance(parameters, Iterable):
            raise TypeError(_NOT_PARAMETERS.format(type(parameters).__name__))
        self.parameters: list[Parameter] = list(parameters)
        for position, parameter in enumerate(self.parameters):
            if not isinstance(parameter, Parameter):
                raise TypeError(_NOT_PARAMETERS.format(f"{shown(parameter)} at {position}"))
        if not self.parameters:
            raise ValueError("an optimizer expects at least one Parameter, got none")
        if len(set(map(id, self.parameters))) != len(self.parameters):
            raise ValueError("a Parameter is given twice to an optimizer, expected once")
        self.lr = lr
        self.weight_decay: float = weight_decay
        self._state: dict[str, NDArray[Any]] = {}

    _lr: float

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        vars(self)["_lr"] = check_number("lr", value)  # without the checks of names, in each step

    @property
    def learning_rate(self) -> float:
        """Another name of ``lr``, that of Keras."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value

    if not TYPE_CHECKING:  # a type checker reports unknown names by itself

        def __setattr__(self, name: str, value: object) -> None:
            """Check a hyperparameter, and raise AttributeError for a misspelt name."""
            if name != "lr":  # which schedules set in each step
                check_assignment(self, name, value, OPTIMIZATION)
            if name in _BOUNDS:
                value = check_number(name, value, below=_BOUNDS[name])
            object.__setattr__(self, name, value)

    def step(self) -> None:
        """Update every parameter that has a gradient, in place.

        Raises
        ------
        RuntimeError
            No parameter has a gradient, or a gradient is that of this rank alone, though all ranks have copies of the
            parameter. No parameter has changed.
        ValueError
            A gradient has another shape than its parameter, whose ``data`` was replaced. No parameter has changed.
        """
        found = [(i, p, grad) for i, p in enumerate(self.parameters) if (grad := p.grad) is not None]
        if not found:
            raise RuntimeError(
                "no parameter of the optimizer has a gradient: call the backward of the model before "
                "optimizer.step(), and zero_grad() after it; an optimizer made of another model's parameters does not "
                f"train this one{see('optimizers')}"
            )
        if any(parameter.replicated and not parameter.summed for _, parameter, _ in found):
            raise RuntimeError(
                "gradients are those of this rank alone, so the parameters of the ranks would drift apart: call "
                "train.sum_gradients(model, comm) before optimizer.step() (a program that sums them itself sets "
                "parameter.replicated = False)"
            )
        for position, parameter, grad in found:
            if grad.shape != parameter.data.shape:
                raise ValueError(
                    f"parameter {position} of the optimizer has the shape {parameter.data.shape}, but its gradient "
                    f"{grad.shape}: set values in place, parameter.data[...] = values, and call zero_grad"
                    f"{see('values-of-parameters')}"
                )
        with np.errstate(all="ignore"):  # infinities and NaN of the parameters say it
            for position, parameter, grad in found:
                update, data = self._update(position, self._gradient(parameter, grad)), parameter.data
                np.subtract(data, update, out=data, casting="same_kind")
                parameter.version += 1

    def settings(self) -> dict[str, Any]:
        """Return the hyperparameters by name, without the learning rate, which is part of the state."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "parameters"}

    def __repr__(self) -> str:
        settings = {"lr": self.lr, **self.settings()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

    def _update(self, position: int, grad: FloatArray) -> FloatArray:
        """Return what is subtracted from the parameter at this position, given its gradient with weight decay."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _update")

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        forget_losses()
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of the state and the learning rate, from which a resumed run continues with the same bits."""
        return {"lr": np.array(self.lr), **{name: array.copy() for name, array in self._state.items()}}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy the values of ``state``, or none of them if any value does not fit.

        Raises
        ------
        ValueError
            Keys are missing or unexpected, an array has another shape, or the learning rate is out of range.
        TypeError
            A value is not an array of real numbers or, for a count, of integers.
        """
        values, _, _ = check_state(type(self).__name__, {"lr": np.array(self.lr), **self._state}, state)
        self.lr = float(values.pop("lr"))
        for name, value in values.items():
            self._state[name][...] = value

    def _add_buffers(self, name: str) -> list[NDArray[Any]]:
        """Add zeros of the shape of every parameter to the state as ``name.0``, ``name.1``, … and return them.

        Their dtype is that of the parameter, or float32 for float16, in which squares of gradients underflow.
        """
        buffers = [np.zeros_like(p.data, np.result_type(p.data.dtype, np.float32)) for p in self.parameters]
        self._state.update({f"{name}.{position}": buffer for position, buffer in enumerate(buffers)})
        return buffers

    def _gradient(self, parameter: Parameter, grad: FloatArray) -> FloatArray:
        """Return the gradient with weight decay, in float32 at least."""
        if grad.dtype.itemsize < 4:
            grad = grad.astype(np.float32)
        if self.weight_decay and parameter.decay:
            return grad + self.weight_decay * parameter.data
        return grad
