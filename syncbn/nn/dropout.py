"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from syncbn.layers.module import Module
from syncbn.nn._checks import as_number, check_dtype, check_grad, check_rng
from syncbn.nn._select import select
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Dropout(Module):
    """Dropout: in training, each value of x is set to 0 with probability p, and the others are divided by 1 − p.

    In evaluation y = x, which is the expected value of y in training.

    Parameters
    ----------
    p : float
        Probability, in [0, 1].
    rng : numpy.random.Generator or int, optional
        Random number generator that draws the seed of this layer, or the seed of that. None means a new generator.
        On several ranks, `syncbn.train.broadcast_parameters` and the trainer copy the seed of rank 0 to all ranks, and
        each rank draws its own random numbers with it.

    Attributes
    ----------
    random_state : ndarray of uint64, shape (4,)
        State of the random numbers: the seed (two numbers), the rank, and the number of forwards in training. It is
        part of a trainer's checkpoints but not of ``state_dict``, which in PyTorch has no entry for dropout either.

    See Also
    --------
    syncbn.train.broadcast_parameters : From then on, ranks draw different numbers.

    References
    ----------
    Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> layer = nn.Dropout(0.5, rng=np.random.default_rng(0))
    >>> y, backward = layer(np.ones((1, 6)))
    >>> y  # those that remain are divided by 1 - p
    array([[2., 2., 0., 2., 2., 2.]])
    >>> layer.eval()(np.ones((1, 6)))[0]
    array([[1., 1., 1., 1., 1., 1.]])
    """

    random_state: np.ndarray[tuple[int], np.dtype[np.uint64]]

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None) -> None:
        super().__init__()
        self.p = p
        seed = check_rng(rng).integers(1 << 64, size=2, dtype=np.uint64)
        self.register_buffer("random_state", np.array([*seed, 0, 0], np.uint64), persistent=False)

    @property
    def p(self) -> float:
        """Probability, in [0, 1]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = as_number("p", value)
        if not 0.0 <= self._p <= 1.0:
            raise ValueError(f"p must be in [0, 1], got {value!r}")

    @property
    def rank(self) -> int:
        """Number of the sequence of random numbers: that of the rank, so that ranks differ."""
        return int(self.random_state[2])

    @rank.setter
    def rank(self, value: int) -> None:
        self.random_state[2] = value

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"p={self.p}"

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y, in x's dtype, and its backward.

        Raises
        ------
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("Dropout", x)
        shape, dtype = x.shape, x.dtype
        if not self.training or self.p == 0.0:
            return x, lambda dy: check_grad("Dropout", dy, shape, dtype)
        key, (rank, forwards) = self.random_state[:2], self.random_state[2:].tolist()
        generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, rank, forwards]))
        self.random_state[3] += 1
        kept = np.empty_like(x, np.bool_)  # in x's memory order
        kept[...] = generator.random(shape) >= self.p
        scale = 1.0 / (1.0 - self.p) if self.p < 1.0 else 0.0

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> NDArray[ScalarT]:
            """Return dL/dx, given dL/dy."""
            return np.multiply(select(check_grad("Dropout", dy, shape, dtype), kept), scale, dtype=dtype)

        return np.multiply(select(x, kept), scale, dtype=dtype), backward

    if TYPE_CHECKING:
        __call__ = forward
