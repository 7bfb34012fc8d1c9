"""Inputs in odd memory give the bits of contiguous native copies, in every normalizer, and are never written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from odd_arrays import MEMORY, fingerprint

from syncbn import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from syncbn import functional as F
from syncbn._core.kernels import which

DTYPES = ("float16", "float32", "float64")


def draw(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * 2 + 1).astype(dtype)


def channels(rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    return {"x": draw(rng, dtype, 3, 6, 4, 5), "weight": draw(rng, dtype, 6), "bias": draw(rng, "float64", 6)}


def features(rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    return {"x": draw(rng, dtype, 3, 6, 4, 5), "normalized_shape": (4, 5), "weight": draw(rng, "float64", 4, 5)}


ARGUMENTS = {
    "batch_norm": channels,
    "batch_norm, float64": lambda rng, d: {**channels(rng, d), "reduction": "float64"},
    "batch_norm, mask": lambda rng, d: {**channels(rng, d), "mask": rng.random((3, 4, 5)) < 0.6},
    "batch_norm, channels last": lambda rng, d: {**channels(rng, d), "x": draw(rng, d, 3, 4, 6), "channel_axis": -1},
    "batch_norm, dense": lambda rng, d: {**channels(rng, d), "x": draw(rng, d, 8, 6)},
    "batch_norm_inference": lambda rng, d: {
        **channels(rng, d),
        "running_mean": draw(rng, d, 6),
        "running_var": draw(rng, d, 6) ** 2,
    },
    "group_norm": lambda rng, d: {**channels(rng, d), "num_groups": 2},
    "instance_norm": channels,
    "layer_norm": lambda rng, d: {**features(rng, d), "bias": draw(rng, d, 4, 5)},
    "rms_norm": features,
    "weight_norm": lambda rng, d: {"v": draw(rng, d, 3, 6, 4, 5), "g": draw(rng, d, 3, 1, 1, 1)},
    "weight_norm, one norm": lambda rng, d: {"v": draw(rng, d, 3, 6, 4), "g": draw(rng, d), "axis": None},
}


def run(name: str, arguments: dict[str, Any], dy: np.ndarray) -> list[np.ndarray]:
    y, *moments, backward = getattr(F, name.split(",")[0])(**arguments)
    moments = [value for each in moments for value in (np.array(each.count), each.mean, each.var)]
    return [y, *moments, *(gradient for gradient in backward(dy) if gradient is not None)]


def moved(value: Any, memory: str) -> Any:
    """Return an array in that memory, read-only; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    array = MEMORY[memory](value)
    array.flags.writeable = False
    return array


def native(value: Any) -> Any:
    return np.array(value, value.dtype.newbyteorder("="), order="C") if isinstance(value, np.ndarray) else value


def assert_same_bits(came: list[np.ndarray], expected: list[np.ndarray], what: str) -> None:
    for one, other in zip(came, expected, strict=True):
        assert one.dtype.newbyteorder("=") == other.dtype
        assert native(one).tobytes() == native(other).tobytes(), what


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_odd_memory(rng, name, dtype, memory):
    if which == "reference" and name in ("group_norm", "instance_norm") and memory == "channels last":
        pytest.skip("the reference implementation adds a sample's groups in the order of memory")
    arguments = ARGUMENTS[name](rng, dtype)
    x = arguments.get("x", arguments.get("v"))
    for odd in (["x"], ["v"], ["dy"], sorted({*arguments, "dy"} - {"x", "v"}), [*arguments, "dy"]):
        given = {"dy": np.roll(x, 7).astype(dtype), **arguments}
        given |= {key: moved(given[key], memory) for key in odd if key in given}
        dy = given.pop("dy")
        before = {key: fingerprint(value) for key, value in {**given, "dy": dy}.items()}
        came = run(name, given, dy)
        assert {key: fingerprint(value) for key, value in {**given, "dy": dy}.items()} == before
        expected = run(name, {key: native(value) for key, value in given.items()}, native(dy))
        assert_same_bits(came, expected, f"{odd} {memory}")


def test_the_comparison_sees_one_bit(rng):
    arguments = channels(rng, "float32")
    expected = run("batch_norm", arguments, arguments["x"])
    arguments["x"][0, 0, 0, 0] = np.nextafter(arguments["x"][0, 0, 0, 0], np.float32(9))
    with pytest.raises(AssertionError):
        assert_same_bits(run("batch_norm", arguments, arguments["x"]), expected, "")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNorm(6),
        lambda: InstanceNorm(6, affine=True, track_running_stats=True),
        lambda: GroupNorm(3, 6),
        lambda: LayerNorm(5),
        lambda: RMSNorm((4, 5)),
    ],
)
def test_layers(rng, make, memory, training):
    x, dy = (moved(draw(rng, "float32", 3, 6, 4, 5), memory) for _ in range(2))
    results = []
    for one, other in ((x, dy), (native(x), native(dy))):
        before = fingerprint(one), fingerprint(other)
        layer = make().train(training)
        y, backward = layer(one)
        results.append([y, backward(other), *(p.grad for p in layer.parameters()), *layer.state_dict().values()])
        assert (fingerprint(one), fingerprint(other)) == before
    assert_same_bits(*results, memory)
