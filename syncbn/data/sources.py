"""Sources of data: names and directories."""

from __future__ import annotations

import os
from pathlib import Path

from syncbn.data.dataset import Dataset
from syncbn.data.directory import read_directory
from syncbn.data.errors import DataError
from syncbn.data.packaged import read_packaged
from syncbn.files import check_path, is_directory

NAMES = ("fashion-mnist-10k", "fashion-mnist")
"""Names that `load` accepts."""

DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
"""Directory of Debian's package dataset-fashion-mnist."""

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load(source: str | os.PathLike[str] = "fashion-mnist-10k") -> Dataset:
    """Load images.

    Parameters
    ----------
    source : str or path
        ``"fashion-mnist-10k"``: the packaged 10,000 + 2,000 images of Fashion-MNIST, equally many of each class.
        ``"fashion-mnist"``: all 60,000 + 10,000 images from Debian's package dataset-fashion-mnist. Any other
        value: a directory with the four idx files of MNIST or a similar data set, gzipped or not, or with the batches
        of CIFAR-10 in its binary or Python format, whose images have the shape (3, 32, 32). Pickles are read without
        executing anything that they contain.

    Raises
    ------
    DataError
        A file or directory is missing or damaged.

    See Also
    --------
    syncbn.data.prepare : Convert the images to inputs.

    References
    ----------
    Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747; Krizhevsky 2009, Learning multiple layers of features
    from tiny images (CIFAR-10).

    Examples
    --------
    >>> from syncbn import data
    >>> images = data.load()
    >>> images.x_train.shape, images.x_test.shape
    ((10000, 28, 28), (2000, 28, 28))
    """
    if source == "fashion-mnist-10k":
        return read_packaged()
    if source == "fashion-mnist":
        return read_directory(
            DEBIAN_DIRECTORY,
            name="fashion-mnist",
            class_names=CLASS_NAMES,
            how_to_get="get it with: apt install dataset-fashion-mnist; or give a directory with its four idx files",
        )
    directory = check_path("source", source)
    try:
        found = is_directory(directory)
    except OSError as error:
        raise DataError(f"{directory}: {error.strerror or error}") from error
    if not found:
        known = ", ".join(map(repr, NAMES))
        raise DataError(
            f"no data {os.fspath(source)!r}: expected {known} or a directory with the four idx files of "
            "MNIST or the batches of CIFAR-10"
        )
    return read_directory(directory)
