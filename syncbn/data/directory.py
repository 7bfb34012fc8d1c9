"""Data sets in directories: the four idx files of MNIST, or the batches of CIFAR-10."""

from __future__ import annotations

import os
from pathlib import Path

from syncbn.data.cifar import BINARY, TEST, TRAIN, is_cifar, read_cifar
from syncbn.data.dataset import Dataset
from syncbn.data.errors import DataError
from syncbn.data.idx import read_idx

FILES = {
    "x_train": ("train-images-idx3-ubyte", 3),
    "y_train": ("train-labels-idx1-ubyte", 1),
    "x_test": ("t10k-images-idx3-ubyte", 3),
    "y_test": ("t10k-labels-idx1-ubyte", 1),
}
"""Name and number of axes of the file of each array."""


def read_directory(
    directory: Path, *, name: str = "", class_names: tuple[str, ...] | None = None, how_to_get: str = ""
) -> Dataset:
    """Read the batches of CIFAR-10 if there is one, or else the four idx files.

    Idx files may be gzipped, and have a dot or a hyphen before ``idx``. `syncbn.data.cifar` describes the batches.

    Parameters
    ----------
    directory : Path
    name : str
        Name of the data set; "" means that of the directory.
    class_names : tuple of str, optional
        None means those of CIFAR's own file of names, or else "0", "1", … up to the largest training label.
    how_to_get : str
        Advice to append to the message of an error.

    Raises
    ------
    DataError
        A file is missing, damaged or inconsistent with the others.
    """
    try:
        if is_cifar(directory):
            arrays, names = read_cifar(directory)
        else:
            arrays, names = (
                {key: read_idx(find_file(directory, stem), ndim) for key, (stem, ndim) in FILES.items()},
                None,
            )
        class_names = class_names or names or None
        if class_names is None:
            class_names = tuple(map(str, range(int(arrays["y_train"].max(initial=0)) + 1)))
        return Dataset(name=name or directory.resolve().name, source=str(directory), class_names=class_names, **arrays)
    except DataError as error:
        raise DataError(f"{error}; {how_to_get or _HOW_TO_GET}") from error.__cause__


_HOW_TO_GET = (
    "a directory of data has the four idx files of MNIST or Fashion-MNIST: "
    + ", ".join(f"{stem}[.gz]" for stem, _ in FILES.values())
    + f"; or the batches of CIFAR-10: {TRAIN[0]} to {TRAIN[-1]} and {TEST}, all with {BINARY} or all without"
)


def find_file(directory: Path, stem: str) -> Path:
    """Return the path of the file in ``directory``, gzipped or not; raise `DataError` if there is none.

    Archives of Kaggle contain a folder of the same name for some of the files, beside the file or with the file in it.
    """
    names = [spelling + suffix for spelling in (stem, stem.replace("-idx", ".idx")) for suffix in (".gz", "")]
    for place in (directory, *(directory / name for name in names)):
        for candidate in (place / name for name in names):
            # Broken links are found too, and fail with an error when they are read.
            if os.path.lexists(candidate) and not candidate.is_dir():
                return candidate
    raise DataError(f"{directory / stem}.gz is missing")
