"""Layers return the documented results or raise ValueError or TypeError for all arguments, states and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_arrays import arrays, floating, junk, odd_values, outcome, shapes

from syncbn import (
    BatchNorm,
    FrozenBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Module,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.nn import Dense

EXAMPLES = 12 * settings.default.max_examples

CONSTRUCTORS: dict[type[Module], dict[str, Any]] = {
    BatchNorm: {"num_features": 3, "momentum": 0.1, "affine": True, "track_running_stats": True, "channel_axis": 1},
    SyncBatchNorm: {"num_features": 3, "reduction": "exact", "momentum": None, "comm": SerialComm()},
    FrozenBatchNorm: {"num_features": 3, "channel_axis": 1},
    InstanceNorm: {"num_features": 3, "affine": True, "track_running_stats": True, "channel_axis": -1},
    GroupNorm: {"num_groups": 1, "num_channels": 3, "affine": True, "bias": True, "channel_axis": 1},
    LayerNorm: {"normalized_shape": 3, "elementwise_affine": True},
    RMSNorm: {"normalized_shape": (3,), "elementwise_affine": False},
    WeightNorm: {"module": Dense(2, 3), "name": "weight", "axis": 0},
}

# No large sizes, which would only exhaust the memory.
small = odd_values.filter(lambda value: not isinstance(value, int) or abs(value) < 100)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(list(CONSTRUCTORS)), st.data())
def test_constructors(kind, data):
    right = {**CONSTRUCTORS[kind], **({} if kind is WeightNorm else {"eps": 1e-5, "dtype": np.float32})}
    wrong = data.draw(st.sets(st.sampled_from(sorted(set(right) - {"comm"})), max_size=2))
    layer = outcome(kind, **{**right, **{name: data.draw(small) for name in wrong}})
    if wrong:
        assert isinstance(layer, (kind, Exception))
    else:
        assert isinstance(layer, kind)
        assert all(array.dtype in (np.float32, np.int64) for array in layer.state_dict().values())


@st.composite
def layers(draw: st.DrawFn) -> Module:
    kind = draw(st.sampled_from([kind for kind in CONSTRUCTORS if kind is not WeightNorm]))
    layer = kind(**CONSTRUCTORS[kind], dtype=draw(st.sampled_from(["f2", "f4", "f8", ">f4", ">f8"])))
    return layer.train(draw(st.booleans()))


@settings(max_examples=EXAMPLES)
@given(layers(), st.lists(st.integers(0, 4), max_size=4), st.data())
def test_calls(layer, shape, data):
    shape = tuple(shape)
    if len(shape) > 1 and data.draw(st.booleans()):
        axis = 1 if getattr(layer, "channel_axis", -1) == 1 else -1
        shape = (*shape[:axis], 3, *(shape[axis + 1 :] if axis == 1 else ()))
    x = data.draw(floating(shape) | arrays(shape) | junk)
    result = outcome(layer, x)
    if isinstance(result, Exception):
        return
    y, backward = result
    assert (y.shape, y.dtype) == (x.shape, x.dtype.newbyteorder("="))
    dx = outcome(backward, data.draw(floating(y.shape) | arrays(y.shape) | junk))
    if isinstance(dx, Exception):
        assert all(parameter.grad is None for parameter in layer.parameters())
        return
    assert (dx.shape, dx.dtype) == (y.shape, y.dtype)
    for parameter in layer.parameters():
        assert (parameter.grad.shape, parameter.grad.dtype) == (parameter.data.shape, parameter.data.dtype)


@st.composite
def states(draw: st.DrawFn, state: dict[str, Any]) -> Any:
    """Draw a state in which values may be missing, added or of another kind."""
    changed = {name: draw(floating(array.shape)) if array.ndim else array for name, array in state.items()}
    for name in draw(st.sets(st.sampled_from([*state, "new"]), max_size=2)) if draw(st.booleans()) else ():
        changed[name] = draw(junk | arrays(np.shape(state.get(name, 0))))
    if changed and draw(st.integers(0, 4)) == 0:
        changed.popitem()
    return changed


@settings(max_examples=EXAMPLES)
@given(layers(), st.data())
def test_a_state_is_loaded_completely_or_not_at_all(layer, data):
    before = {name: array.tobytes() for name, array in layer.state_dict().items()}
    state = data.draw(states(layer.state_dict()) | junk)
    keras = isinstance(layer, BatchNorm) and isinstance(state, dict) and data.draw(st.booleans())
    result = (
        outcome(layer.load_keras_weights, list(state.values())[:4]) if keras else outcome(layer.load_state_dict, state)
    )
    after = layer.state_dict()
    if isinstance(result, Exception):
        assert {name: array.tobytes() for name, array in after.items()} == before
    elif isinstance(state, dict) and not keras:
        for name, value in state.items():
            with np.errstate(all="ignore"):
                expected = np.asarray(value).astype(after[name].dtype)
            np.testing.assert_array_equal(after[name], expected)


@settings(max_examples=EXAMPLES)
@given(shapes | st.just((3,)), st.data())
def test_parameters_accept_only_gradients_of_their_shape(shape, data):
    layer = LayerNorm(3)
    layer.weight.add_grad(data.draw(floating((3,))))
    before = layer.weight.grad.copy()
    result = outcome(layer.weight.add_grad, data.draw(floating(shape)))
    assert isinstance(result, ValueError) == (shape != (3,))
    if shape != (3,):
        np.testing.assert_array_equal(layer.weight.grad, before)
