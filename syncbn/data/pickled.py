"""Pickled dictionaries with arrays, which are read without executing anything that they contain."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from syncbn.data.errors import DataError


class PickledArray:
    """The state of a pickled NumPy array, which NumPy itself never sees."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def as_uint8(self, ndim: int) -> NDArray[np.uint8]:
        """Return the array; raise `DataError` unless it is one of uint8 in C order with so many axes."""
        try:
            _, shape, dtype, fortran, values = self.state
            array: NDArray[np.uint8] = np.frombuffer(values, np.uint8).reshape(shape)
            if dtype.name.lstrip(b"|") != b"u1" or fortran or array.ndim != ndim:
                raise ValueError
        except (TypeError, ValueError, AttributeError):
            raise DataError(f"an array is damaged, or not one of uint8 with {ndim} axes in C order") from None
        return array


class PickledDType:
    """The name of the dtype of a pickled array."""

    def __init__(self, name: Any) -> None:
        self.name: Any = name.encode() if isinstance(name, str) else name

    def __setstate__(self, _: object) -> None:
        """Ignore the details, such as the byte order, which a dtype of one byte does not have."""


def read_pickle(content: bytes) -> Any:
    """Return the object of a pickle of Python 2 or 3, with `PickledArray` for arrays and bytes for strings of Python 2.

    Only numbers, strings, lists, tuples, dictionaries and arrays are read: what else a pickle names is never imported,
    and nothing of it is called.

    Raises
    ------
    DataError
        The pickle is damaged, or names something else.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises errors of any type
        raise DataError(f"not a pickle, or a damaged one ({type(error).__name__}: {error})") from None


_REFUSED = (
    "BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER EXT1 EXT2 EXT4 PERSID BINPERSID EMPTY_SET FROZENSET ADDITEMS INST OBJ "
    "NEWOBJ NEWOBJ_EX"
)
"""Instructions of pickles that data files do not have: they allocate memory, make other objects, or hash values."""


class _Unpickler(pickle._Unpickler):  # the one in C allocates what a file asks for
    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in {getattr(pickle, name)[0] for name in _REFUSED.split()}
    }

    stack: list[Any]

    def __init__(self, file: io.BytesIO, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.known = {  # new functions for each file, which could set their attributes
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: PickledArray(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: PickledArray(),
            ("numpy", "ndarray"): None,
            ("numpy", "dtype"): lambda name, *_: PickledDType(name),
            ("_codecs", "encode"): lambda text, _: text.encode("latin-1"),  # bytes of Python 3 in protocol 2
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of an array; raise `DataError` for any other."""
        if (module, name) not in self.known:
            raise DataError(f"it names {module}.{name}, which a file of arrays does not need, so it was not read")
        return self.known[module, name]

    def load_setitem(self) -> None:
        """Set an entry of a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]  # the stubs do not have it

    def load_setitems(self) -> None:
        """Set the entries of a dictionary that follow the last mark."""
        _check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        """Make a dictionary of the entries that follow the last mark."""
        _check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _check_keys(keys: list[Any]) -> None:
    """Raise `DataError` for keys that are not text: hashing nested tuples can take any time, or crash."""
    for key in keys:
        if type(key) not in (bytes, str):
            raise DataError(f"a key of a dictionary is of type {type(key).__name__}, expected text")
