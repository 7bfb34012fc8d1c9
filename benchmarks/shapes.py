"""Arrays of the benchmark: float32 activations of convolutional and dense layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syncbn.typing import FloatArray

CONVOLUTIONAL = (
    (2, 64, 112, 112),
    (2, 64, 56, 56),
    (2, 256, 56, 56),
    (2, 512, 28, 28),
    (2, 1024, 14, 14),
    (2, 2048, 7, 7),
    (32, 64, 56, 56),
)
DENSE = ((256, 1024), (64, 64), (4096, 256))
LARGEST = (32, 64, 56, 56)
EPS = 1e-5


@dataclass(frozen=True)
class Problem:
    """The input of one normalizer: random, each channel with its own mean and scale.

    Attributes
    ----------
    x, dy : ndarray of float32
        Arrays of shape (N, C, ...), in channels-last memory if ``channels_last``.
    weight, bias : ndarray of float32, shape (C,)
    channels_last : bool
    """

    x: FloatArray
    dy: FloatArray
    weight: FloatArray
    bias: FloatArray
    channels_last: bool = False

    @classmethod
    def random(cls, shape: tuple[int, ...], channels_last: bool = False, seed: int = 0) -> Problem:
        """Draw a problem of this shape (N, C, ...)."""
        rng = np.random.default_rng(seed)
        channels = shape[1]
        memory_shape = (shape[0], *shape[2:], channels) if channels_last else shape
        x, dy = (rng.standard_normal(memory_shape, dtype=np.float32) for _ in range(2))
        if channels_last:
            x, dy = np.moveaxis(x, -1, 1), np.moveaxis(dy, -1, 1)
        per_channel = (channels, *[1] * (len(shape) - 2))
        mean, scale, weight, bias = rng.uniform(0.5, 2.0, (4, channels)).astype(np.float32)
        x *= scale.reshape(per_channel)
        x += mean.reshape(per_channel)
        return cls(x, dy, weight, bias, channels_last)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, C, ...) of x."""
        return self.x.shape

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the statistics of batch normalization."""
        return (0, *range(2, self.x.ndim))

    @property
    def statistics(self) -> tuple[FloatArray, FloatArray]:
        """Mean and biased variance of each channel, in float32."""
        mean = self.x.mean(self.axes, dtype=np.float64)
        return mean.astype(np.float32), self.x.var(self.axes, dtype=np.float64).astype(np.float32)


def label(shape: tuple[int, ...]) -> str:
    """Return a shape in the format of the tables, such as 2×64×56×56."""
    return "×".join(map(str, shape))
