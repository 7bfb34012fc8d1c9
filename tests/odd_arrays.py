"""Arrays of all kinds of values, dtypes and memory layouts that a caller may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]

FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")
OTHERS = ("?", "i1", "<i8", ">u4", "c8", "c16", "g", "G", "O", "M8[s]", "m8[ms]", "U3", "S2", "V4", "f4,i2")


def _sliced(a: Array) -> Array:
    wide = np.zeros([2 * size for size in a.shape], a.dtype)
    view = wide[(..., *[slice(None, None, 2)] * a.ndim)]
    view[...] = a
    return view


def _reversed(a: Array) -> Array:
    reverse = (..., *[slice(None, None, -1)] * a.ndim)
    return a[reverse].copy()[reverse]


def _unaligned(a: Array) -> Array:
    if a.dtype.hasobject:
        return a
    raw = np.frombuffer(bytearray(a.nbytes + 1), np.uint8)[1:]
    view = raw.view(a.dtype).reshape(a.shape) if a.size else a
    view[...] = a
    return view


def _channels_last(a: Array) -> Array:
    return a if a.ndim < 2 else np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def _repeated(a: Array) -> Array:
    """Repeat the first entry of the last axis with stride 0."""
    return a if a.ndim < 1 or not a.shape[-1] else np.broadcast_to(a[..., :1], a.shape)


def _read_only(a: Array) -> Array:
    view = a.copy()
    view.flags.writeable = False
    return view


MEMORY: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.copy,
    "Fortran": lambda a: np.array(a, order="F"),
    "channels last": _channels_last,
    "negative strides": _reversed,
    "sliced": _sliced,
    "stride 0": _repeated,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "foreign byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}
"""Memory layouts, which keep the values of the array except for "stride 0"."""

shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)


@st.composite
def floating(draw: st.DrawFn, shape: tuple[int, ...], dtypes: tuple[str, ...] = FLOATS) -> Array:
    """Draw floats of any magnitude in any memory layout."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    info = np.finfo(dtype)
    scale = draw(
        st.sampled_from([1.0, 1.0, 1e3, float(info.max) / 8, float(info.tiny), float(info.smallest_subnormal)])
    )
    values = rng.standard_normal(shape) * scale
    if draw(st.booleans()):  # replace some of them by special values
        special = [0.0, -0.0, np.nan, np.inf, -np.inf, float(info.max), -float(info.max), float(info.tiny), 1.0]
        values = np.where(
            rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 1.0])), rng.choice(special, shape), values
        )
    with np.errstate(all="ignore"):
        array = np.asarray(values).astype(dtype)
    return MEMORY[draw(st.sampled_from(sorted(MEMORY)))](array)


@st.composite
def other(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """Draw an array whose dtype is not a float."""
    array = np.zeros(shape, draw(st.sampled_from(OTHERS)))
    return MEMORY[draw(st.sampled_from(sorted(set(MEMORY) - {"foreign byte order"})))](array)


def arrays(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    return floating(shape) | other(shape)


odd_values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 7),
    st.sampled_from(
        [2**31, 2**63, -(2**63), 10**400, 2.0, 0.5, -1e-5, 1e300, np.nan, np.inf, 1j, b"x", "", "1", "exact"]
    ),
    st.sampled_from(
        [(), (3,), (2, 3), [1.0], [[1], [1, 2]], {}, {"a": 1}, object(), np.float32(2), np.int8(3), np.str_("1")]
    ),
    st.text(max_size=3),
    shapes,
)
junk: st.SearchStrategy[Any] = odd_values | shapes.flatmap(arrays)
"""Values that are invalid for most arguments."""


def fingerprint(value: Any) -> Any:
    """Return the properties of an argument that a call must not change: bytes, layout and dtype of arrays."""
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return value.shape, value.strides, str(value.dtype), value.flags.writeable, content
    return repr(value)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the result or the documented error, and assert that the arguments are unchanged."""
    before = [fingerprint(value) for value in (*args, *kwargs.values())]
    try:
        result = function(*args, **kwargs)
    except (ValueError, TypeError) as error:
        result = error
    if isinstance(result, Exception):
        assert type(result) in (ValueError, TypeError)  # not one of the classes that NumPy derives from them
        assert str(result)
    assert [fingerprint(value) for value in (*args, *kwargs.values())] == before
    return result
