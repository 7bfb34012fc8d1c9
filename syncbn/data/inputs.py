"""Conversion of pixels to inputs of networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Inputs:
    """Standardized images and their labels.

    Attributes
    ----------
    x_train, x_test : ndarray of float32 or float64, shape (N, C, H, W) or (N, C·H·W)
        C is 1 for gray images, 3 for colours.
    y_train, y_test : ndarray of uint8, shape (N,)
    mean, std : float
        Mean and standard deviation of all values of the training images (0 to 255, after pooling), used to standardize.

    See Also
    --------
    syncbn.data.prepare : The function that returns them.

    Examples
    --------
    >>> from syncbn import data
    >>> images = data.prepare(data.load(), flat=True)
    >>> images.x_test.shape
    (2000, 784)
    """

    x_train: NDArray[np.floating]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.floating]
    y_test: NDArray[np.uint8]
    mean: float
    std: float


def prepare(dataset: Dataset, *, pool: int = 1, flat: bool = False, dtype: DTypeLike = np.float32) -> Inputs:
    """Return (p − mean) / std of all pixels p, where mean and std are those of all training pixels and channels.

    They are computed from sums of integers, so they do not depend on the order of the images.

    Parameters
    ----------
    dataset : Dataset
    pool : int
        Average squares of ``pool`` × ``pool`` pixels first: 2 reduces 28 × 28 pixels to 14 × 14.
    flat : bool
        Whether the shape is (N, C·H·W) instead of (N, C, H, W).
    dtype : dtype
        float32 or float64.

    Raises
    ------
    ValueError
        ``pool`` does not divide the images, or all training pixels are equal.
    TypeError
        ``dataset`` is not a Dataset, such as one that is prepared already, or ``dtype`` is not float32 or float64.

    See Also
    --------
    syncbn.data.load : Load images.
    syncbn.data.Inputs : The result.

    Examples
    --------
    >>> from syncbn import data
    >>> images = data.prepare(data.load(), pool=2)
    >>> images.x_train.shape, images.x_train.dtype.name
    ((10000, 1, 14, 14), 'float32')
    >>> abs(float(images.x_train.mean())) < 1e-4
    True
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a Dataset, as data.load() returns, got {type(dataset).__name__}")
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype}")
    height, width = dataset.x_train.shape[-2:]
    if not isinstance(pool, (int, np.integer)) or pool < 1 or height % pool or width % pool:
        raise ValueError(f"pool must divide the images' {height} x {width} pixels, got {pool!r}")
    train, test = _square_sums(dataset.x_train, pool), _square_sums(dataset.x_test, pool)
    total = int(train.sum(dtype=np.int64))
    squares = int(np.einsum("i,i->", train.ravel(), train.ravel(), dtype=np.int64))
    spread = train.size * squares - total**2  # size²·variance, exact in Python's integers
    if spread == 0:
        raise ValueError(f"{dataset.name}: all training pixels are equal, so they cannot be standardized")
    mean, std = total / train.size, math.sqrt(spread) / train.size

    def standardize(sums: NDArray[np.int32]) -> NDArray[np.floating]:
        x = sums.astype(dtype)
        x -= mean
        x /= std
        return x.reshape(len(x), -1) if flat else x.reshape(len(x), -1, *x.shape[-2:])

    return Inputs(
        x_train=standardize(train),
        y_train=dataset.y_train,
        x_test=standardize(test),
        y_test=dataset.y_test,
        mean=mean / pool**2,
        std=std / pool**2,
    )


def _square_sums(images: NDArray[np.uint8], pool: int) -> NDArray[np.int32]:
    *others, height, width = images.shape
    squares = images.reshape(*others, height // pool, pool, width // pool, pool)
    sums: NDArray[np.int32] = squares.sum(axis=(-3, -1), dtype=np.int32)
    return sums
