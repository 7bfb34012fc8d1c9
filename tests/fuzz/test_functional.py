"""Functions return the documented results or raise ValueError or TypeError for all arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_arrays import arrays, floating, junk, outcome, shapes

from syncbn import functional as F

PARAMETERS = {
    "weight_norm": ["g"],
    "weight_standardization": [],
    "rms_norm": ["weight"],
    "filter_response_norm": ["weight", "bias", "tau"],
}
"""Names of the parameters of each function, if they are not weight and bias."""

EXAMPLES = 40 * settings.default.max_examples


def drawn_eps(draw: st.DrawFn) -> Any:
    return draw(st.sampled_from([0.0, 1e-5, 1e-300, 1.0, 1e300, 0, np.float32(0.1)]))


def drawn_axis(draw: st.DrawFn, ndim: int) -> int:
    return draw(st.sampled_from([1, 1, -1, 0, *range(-ndim, ndim)]))


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any], bool]:
    """Draw a function, its arguments, and whether all of them are valid."""
    name = draw(st.sampled_from(F.__all__))
    shape = draw(shapes)
    x = draw(floating(shape))
    arguments: dict[str, Any] = {"v" if name.startswith("weight_") else "x": x}
    options: dict[str, Any] = {}
    if name == "weight_norm":
        axis = draw(st.none() | st.integers(-max(x.ndim, 1), max(x.ndim, 1) - 1))
        kept = None if axis is None or not x.ndim else axis % x.ndim
        arguments["g"] = draw(floating(tuple(size if i == kept else 1 for i, size in enumerate(shape))))
        options["axis"] = axis
    elif name == "weight_standardization":
        options = {"axis": drawn_axis(draw, len(shape)), "eps": drawn_eps(draw)}
    else:
        options["eps"] = drawn_eps(draw)
        if name in ("layer_norm", "rms_norm"):
            start = draw(st.integers(0, max(x.ndim - 1, 0)))
            trailing = shape[start:]
            arguments["normalized_shape"] = trailing[0] if len(trailing) == 1 and draw(st.booleans()) else trailing
            parameter = trailing
            if name == "layer_norm":
                options["mask"] = draw(st.sampled_from([None, np.arange(shape[-1] if shape else 1) > 0, np.True_]))
        else:
            options["channel_axis"] = axis = drawn_axis(draw, len(shape))
            channels = shape[axis] if -len(shape) <= axis < len(shape) else 3
            parameter = (channels,)
            if name == "ghost_batch_norm":
                arguments["virtual_batch_size"] = draw(st.integers(1, 4))
            if name == "group_norm":
                arguments["num_groups"] = draw(st.sampled_from([g for g in range(1, 6) if channels % g == 0]))
            if name == "batch_norm":
                options["reduction"] = draw(st.sampled_from(["exact", "float64"]))
            if name in ("batch_norm", "batch_renorm", "group_norm", "instance_norm"):
                rest = tuple(size for i, size in enumerate(shape) if i != axis % max(x.ndim, 1))
                rng = np.random.default_rng(draw(st.integers(0, 99)))
                options["mask"] = draw(st.sampled_from([None, rng.random(rest) < 0.7, np.True_]))
            if name in ("batch_norm_inference", "batch_renorm"):
                arguments["running_mean"], arguments["running_var"] = (
                    draw(floating(parameter)),
                    draw(floating(parameter).map(np.abs)),
                )
        for affine in PARAMETERS.get(name, ["weight", "bias"]):
            options[affine] = draw(st.none() | floating(parameter))
    arguments |= options
    wrong = draw(st.sets(st.sampled_from(sorted(arguments)), max_size=2)) if draw(st.booleans()) else set()
    for argument in wrong:
        arguments[argument] = draw(junk)
    if "x" in wrong and draw(st.booleans()):
        arguments["x"] = draw(shapes.flatmap(arrays))
    return name, arguments, not wrong


def assert_like(y: Any, x: np.ndarray) -> None:
    """Check shape, dtype, byte order and memory order."""
    assert type(y) is np.ndarray
    assert y.shape == x.shape
    assert y.dtype == x.dtype.newbyteorder("=")
    assert y.flags.aligned
    assert y.flags.writeable
    assert y.flags.c_contiguous or (strides(y) == strides(x) and not x.flags.c_contiguous)


def strides(a: np.ndarray) -> list[int]:
    return [stride for stride, size in zip(a.strides, a.shape, strict=True) if size > 1]


@settings(max_examples=EXAMPLES)
@given(calls(), st.data())
def test_documented_results_or_documented_errors(call, data):
    name, arguments, right = call
    result = outcome(getattr(F, name), **arguments)
    x = arguments.get("x", arguments.get("v"))
    if isinstance(result, Exception):
        least = {"weight_norm": 0, "layer_norm": 1, "rms_norm": 1}.get(name, 2)
        assert not right or x.ndim < least or expected_error(result), result
        return
    y, *moments, backward = result
    assert_like(y, np.asarray(x))
    for batch in moments[0] if name == "ghost_batch_norm" else moments:
        assert isinstance(batch.count, int)
        assert batch.mean.dtype == batch.var.dtype == np.float64
        assert not (batch.var < 0).any()
    dy = data.draw(floating(y.shape) | arrays(y.shape) | junk)
    gradients = outcome(backward, dy)
    if isinstance(gradients, Exception):
        assert not (isinstance(dy, np.ndarray) and dy.dtype.kind == "f" and dy.shape == y.shape and dy.itemsize <= 8)
        return
    dx, *of_parameters = gradients if isinstance(gradients, tuple) else (gradients,)
    assert_like(dx, np.asarray(x))
    names = PARAMETERS.get(name, ["weight", "bias"])
    for parameter, gradient in zip((arguments[n] for n in names), of_parameters, strict=True):
        if parameter is None:
            assert gradient is None
        else:
            assert gradient.shape == np.shape(parameter)
            assert gradient.dtype.newbyteorder("=") == np.asarray(parameter).dtype.newbyteorder("=")


def expected_error(error: Exception) -> bool:
    """Return whether valid arguments may give this error: too few values, or an axis that a small array lacks."""
    texts = (
        "more than 1 value per channel",
        "more than 1 value for each index",
        "mask selects no value",
        "must be in [",
        "must be positive",
        "normalized_shape must",
    )
    return any(text in str(error) for text in texts)
