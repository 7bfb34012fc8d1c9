"""Comparison of gradients with central finite differences in float64.

A backward is checked by a random linear functional of the output, L = Σ dy·y with random, not constant dy: along random
directions v of each argument a, L(a + hv) − L(a − hv) must be the component of the gradient along v. The tolerance is
rtol times the typical size of this component, ‖gradient‖·‖v‖/√size. There is no absolute tolerance: tiny gradients need
the same relative accuracy as large ones, and zero gradients must be exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.layers.module import Module

Array = NDArray[Any]


def check_function(
    f: Callable[..., tuple[Any, Callable[[Any], Any]]],
    *arguments: Array | None,
    rng: np.random.Generator,
    rtol: float = 1e-6,
    step: float = 1e-5,
    directions: int = 3,
    names: Sequence[str] = (),
) -> None:
    """Check ``f(*arguments) -> (y, backward)``, where ``backward(dy)`` returns one gradient per argument.

    Arguments are float64 arrays, or None (whose gradient must be None). ``step`` is relative to the standard deviation
    of an argument. Raises AssertionError with the name of the argument, the direction and both numbers.
    """
    for argument in arguments:
        if argument is not None and (argument.dtype != np.float64 or argument.size == 0):
            raise ValueError(f"arguments must be float64 and not empty, got {argument.dtype} of shape {argument.shape}")
    before = [None if argument is None else argument.copy() for argument in arguments]
    y, backward = f(*arguments)
    dy = rng.standard_normal(np.shape(y))
    dy_before = dy.copy()
    gradients = backward(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(arguments), f"{len(gradients)} gradients for {len(arguments)} arguments"
    np.testing.assert_array_equal(dy, dy_before, "backward wrote into dy")

    for position, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        name = names[position] if position < len(names) else f"argument {position}"
        if argument is None:
            assert gradient is None, f"{name} is None but has a gradient"
            continue
        np.testing.assert_array_equal(argument, before[position], f"{name} was written")
        assert gradient is not None, f"{name} has no gradient"
        assert gradient.shape == argument.shape, f"{name}: gradient {gradient.shape} for shape {argument.shape}"
        for direction in range(directions):
            shift = step * _spread(argument) * rng.standard_normal(argument.shape)
            plus, minus = argument + shift, argument - shift
            moved = plus - minus  # 2·shift after rounding
            y_plus, y_minus = (
                f(*arguments[:position], moved_to, *arguments[position + 1 :])[0] for moved_to in (plus, minus)
            )
            numeric = float(np.vdot(dy, np.subtract(y_plus, y_minus)))
            analytic = float(np.vdot(gradient, moved))
            typical = np.linalg.norm(gradient) * np.linalg.norm(moved) / np.sqrt(moved.size)
            assert abs(numeric - analytic) <= rtol * typical, (
                f"{name}, direction {direction}: finite difference {numeric:.10g}, backward {analytic:.10g}, "
                f"typical size {typical:.3g}, so the relative error is {abs(numeric - analytic) / (typical or 1):.2g}"
            )


def check_module(
    layer: Module,
    x: Array,
    rng: np.random.Generator,
    *,
    rtol: float = 1e-6,
    step: float = 1e-5,
    directions: int = 3,
) -> None:
    """Check the gradients of x and of every parameter of ``layer`` in its current mode.

    x and the parameters are float64. The state of the layer is restored, its gradients are not.
    """
    parameters = dict(layer.named_parameters())
    state = layer.state_dict()

    def run(x: Array, *values: Array) -> tuple[Array, Callable[[Array], tuple[Any, ...]]]:
        layer.load_state_dict({**state, **dict(zip(parameters, values, strict=True))})
        y, layer_backward = layer(x)

        def backward(dy: Array) -> tuple[Any, ...]:
            layer.zero_grad()
            dx = layer_backward(dy)
            return dx, *(parameter.grad for parameter in parameters.values())

        return y, backward

    try:
        values = [parameter.data.copy() for parameter in parameters.values()]
        names = ["x", *parameters]
        check_function(run, x, *values, rng=rng, rtol=rtol, step=step, directions=directions, names=names)
    finally:
        layer.load_state_dict(state)


def _spread(a: Array) -> float:
    return float(np.std(a)) or float(np.sqrt(np.mean(a * a))) or 1.0
