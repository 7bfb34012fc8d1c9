"""The formats of CIFAR-10: batches of colour images in binary files, or in pickled dictionaries of Python.

A record of the binary format is one byte with the label and 3,072 bytes with the red, green and blue values of 32 × 32
pixels. A dictionary has the same values in ``data``, one row for each image, and ``labels``. Format:
https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.data.errors import DataError
from syncbn.data.pickled import PickledArray, read_pickle
from syncbn.files import open_regular

IMAGE = (3, 32, 32)
PIXELS = 3 * 32 * 32

TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
BINARY = ".bin"

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def is_cifar(directory: Path) -> bool:
    """Return whether a directory has a batch of training images in one of the formats."""
    return any(os.path.lexists(directory / (stem + end)) for stem in TRAIN for end in (BINARY, ""))


def read_cifar(directory: Path) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...] | None]:
    """Return the arrays of a `Dataset`, and the names of the classes if there is a file with them.

    If a directory has both formats, the binary one is read.

    Raises
    ------
    DataError
        A file is missing or damaged.
    """
    binary = any(os.path.lexists(directory / (stem + BINARY)) for stem in TRAIN)
    read, end = (_read_binary, BINARY) if binary else (_read_python, "")
    batches = [_of_file(directory / (stem + end), read) for stem in (*TRAIN, TEST)]
    train_images, train_labels = (np.concatenate(arrays) for arrays in zip(*batches[:-1], strict=True))
    arrays = {"x_train": train_images, "y_train": train_labels, "x_test": batches[-1][0], "y_test": batches[-1][1]}
    meta = directory / ("batches.meta.txt" if binary else "batches.meta")
    names = _read_names if binary else _read_python_names
    return arrays, _of_file(meta, names) if os.path.lexists(meta) else None


def _of_file(path: Path, read: Any) -> Any:
    """Return ``read(content)`` of a file; its errors have the path."""
    try:
        with open_regular(path) as file:
            return read(file.read())
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _read_binary(content: bytes) -> Batch:
    if not content or len(content) % (1 + PIXELS):
        raise DataError(f"{len(content)} bytes are not a multiple of {1 + PIXELS}, the size of a label and its image")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:].reshape(-1, *IMAGE), records[:, 0].copy()


def _read_python(content: bytes) -> Batch:
    data, labels = _entries(content, "data", "labels")
    if not isinstance(data, PickledArray):
        raise DataError(f"data is of type {type(data).__name__}, expected an array")
    images = data.as_uint8(2)
    if images.shape[1] != PIXELS:
        raise DataError(f"images have {images.shape[1]} values, expected {PIXELS}")
    if not (isinstance(labels, list) and all(type(label) is int and 0 <= label <= 255 for label in labels)):
        raise DataError("labels must be a list of integers from 0 to 255")
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images and {len(labels)} labels")
    return images.reshape(-1, *IMAGE), np.array(labels, np.uint8)


def _read_names(content: bytes) -> tuple[str, ...]:
    return tuple(line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip())


def _read_python_names(content: bytes) -> tuple[str, ...]:
    (names,) = _entries(content, "label_names")
    if not (isinstance(names, list) and all(isinstance(name, (bytes, str)) for name in names)):
        raise DataError("label_names must be a list of strings")
    return tuple(name if isinstance(name, str) else name.decode("utf-8", "replace") for name in names)


def _entries(content: bytes, *names: str) -> list[Any]:
    """Return entries of a pickled dictionary, whose keys are bytes if Python 2 has written it."""
    found = read_pickle(content)
    if not isinstance(found, dict):
        raise DataError(f"a pickle of type {type(found).__name__}, expected a dictionary")
    entries = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in found.items()}
    for name in names:
        if name not in entries:
            raise DataError(f"the dictionary has no entry {name!r}")
    return [entries[name] for name in names]
