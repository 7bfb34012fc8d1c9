"""The packaged subset of Fashion-MNIST."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from syncbn.data.dataset import Dataset
from syncbn.data.errors import DataError

PACKAGED = Path(__file__).with_name("fashion_mnist_10k_2k.npz")
SHA256 = "66e79b422c113b2ea2bccf5e0351cf6c2a1b80c9f8c4663408f647025768f8aa"
"""Checksum of the file, which its text file contains as well."""

_REPAIR = "reinstall syncbn to restore it"


def read_packaged(path: Path = PACKAGED) -> Dataset:
    """Read the class-balanced 10,000 + 2,000 images.

    Parameters
    ----------
    path : Path
        Another copy of the file.

    Raises
    ------
    DataError
        The file is missing or differs from the packaged one.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; {_REPAIR}") from error
    if (digest := hashlib.sha256(stored).hexdigest()) != SHA256:
        raise DataError(f"{path}: damaged ({len(stored)} bytes with SHA-256 {digest}, expected {SHA256}); {_REPAIR}")
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        return Dataset(
            name="fashion-mnist-10k",
            source="syncbn (a subset of Fashion-MNIST)",
            x_train=arrays["x_train"],
            y_train=arrays["y_train"],
            x_test=arrays["x_test"],
            y_test=arrays["y_test"],
            class_names=tuple(map(str, arrays["class_names"])),
        )
