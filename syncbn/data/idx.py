"""The idx format, in which MNIST and similar data sets are distributed.

A file consists of two zero bytes, the type (8 is uint8), the number of axes, the size of each axis as a big-endian
uint32, and the values in C order. Format: http://yann.lecun.com/exdb/mnist/ (LeCun, Cortes, Burges 1998).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from syncbn.data.errors import DataError
from syncbn.files import check_path, open_regular

GZIP_MAGIC = b"\x1f\x8b"
GZIP_RATIO = 1032
"""Largest compression ratio of deflate, see https://zlib.net/zlib_tech.html."""
CHUNK_BYTES = 1 << 20

_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read_idx(path: str | Path, ndim: int) -> NDArray[np.uint8]:
    """Read an idx file of uint8, gzipped or not, which its first bytes determine, not its name.

    If the header declares more values than the file can contain, an error is raised before they are allocated.

    Parameters
    ----------
    path : str or Path
    ndim : int
        Expected number of axes: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    DataError
        The file is not readable or not regular, is not an idx file, has another type or number of axes, is longer or
        shorter than its header declares, or its gzip stream is damaged.

    See Also
    --------
    syncbn.data.load : Load images and labels.

    Examples
    --------
    >>> import struct
    >>> from pathlib import Path
    >>> from syncbn.data import read_idx
    >>> size = Path("labels").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes([7, 2, 1]))
    >>> read_idx("labels", ndim=1)
    array([7, 2, 1], dtype=uint8)
    """
    path = check_path("path", path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            magic = file.read(2)
            file.seek(0)
            if magic == GZIP_MAGIC:
                with gzip.open(file) as stream:
                    return _read(cast(BinaryIO, stream), ndim, max_size=size * GZIP_RATIO)
            return _read(file, ndim, max_size=size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _read(stream: BinaryIO, ndim: int, max_size: int) -> NDArray[np.uint8]:
    """Read an idx file of at most ``max_size`` bytes."""
    magic = _read_up_to(stream, 4)
    if not magic:
        raise DataError("not an idx file: it is empty")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataError(f"not an idx file: it starts with {magic!r}")
    if magic[2] != 0x08:
        raise DataError(f"idx file of {_TYPES[magic[2]]}, expected uint8")
    if magic[3] != ndim:
        raise DataError(f"idx file with {magic[3]} axes, expected {ndim}")
    sizes = _read_up_to(stream, 4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError("truncated in the header")
    shape = struct.unpack(f">{ndim}I", sizes)
    expected = math.prod(shape)  # Python's integers do not overflow
    if expected > max_size:
        raise DataError(f"truncated: shape {shape} needs {expected} values, more than the file can contain")
    values = _read_up_to(stream, expected + 1)  # one more byte: gzip verifies its checksum at the end
    if len(values) != expected:
        truncated = len(values) < expected
        state, or_more = ("truncated", "") if truncated else ("too long", " or more")
        raise DataError(f"{state}: shape {shape} needs {expected} values, the file has {len(values)}{or_more}")
    try:
        return np.frombuffer(values, np.uint8).reshape(shape)
    except ValueError as error:  # a size of 0 times sizes whose product overflows
        raise DataError(f"impossible shape {shape}") from error


def _read_up_to(stream: BinaryIO, size: int) -> bytearray:
    """Read ``size`` bytes or until the end, in chunks, because ``stream.read(size)`` would allocate ``size`` bytes."""
    values = bytearray()
    while len(values) < size:
        chunk = stream.read(min(CHUNK_BYTES, size - len(values)))
        if not chunk:
            break
        values += chunk
    return values
