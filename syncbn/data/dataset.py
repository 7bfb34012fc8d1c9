"""Images and labels of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from syncbn.data.errors import DataError

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and testing. Makes the arrays read-only.

    Attributes
    ----------
    name : str
        Name, such as ``"fashion-mnist-10k"``.
    source : str
        File or directory of the data.
    x_train, x_test : ndarray of uint8, shape (N, H, W) or (N, C, H, W)
        Gray values, or the values of C channels, such as red, green and blue.
    y_train, y_test : ndarray of uint8, shape (N,)
        Class numbers.
    class_names : tuple of str
        Names in the order of the class numbers.

    Raises
    ------
    DataError
        The arrays are inconsistent or empty.

    See Also
    --------
    syncbn.data.prepare : Convert it to inputs.

    Examples
    --------
    >>> from syncbn import data
    >>> images = data.load()
    >>> images.x_train.dtype.name, images.y_train[:3]
    ('uint8', array([3, 1, 4], dtype=uint8))
    """

    name: str
    source: str
    x_train: UInt8Array
    y_train: UInt8Array
    x_test: UInt8Array
    y_test: UInt8Array
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, images, labels in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            self._check(f"x_{part}", images, ndim=(3, 4))
            self._check(f"y_{part}", labels, ndim=(1,))
            if len(images) != len(labels):
                self._fail(f"{len(images)} {part} images have {len(labels)} labels")
            if labels.max() >= len(self.class_names):
                self._fail(f"a {part} label is {labels.max()}, expected 0 to {len(self.class_names) - 1}")
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            self._fail(f"train images of {self.x_train.shape[1:]} pixels, test images of {self.x_test.shape[1:]}")

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """Return at most the first ``train`` and ``test`` samples; None means all."""
        return replace(
            self,
            x_train=self.x_train[:train],
            y_train=self.y_train[:train],
            x_test=self.x_test[:test],
            y_test=self.y_test[:test],
        )

    def _check(self, name: str, array: UInt8Array, ndim: tuple[int, ...]) -> None:
        if array.dtype != np.uint8 or array.ndim not in ndim:
            expected = " or ".join(map(str, ndim))
            self._fail(f"{name} is {array.dtype} with {array.ndim} axes, expected uint8 with {expected}")
        if array.size == 0:
            self._fail(f"{name} of shape {array.shape} is empty")
        array.setflags(write=False)

    def _fail(self, problem: str) -> None:
        raise DataError(f"{self.name} from {self.source}: {problem}")
