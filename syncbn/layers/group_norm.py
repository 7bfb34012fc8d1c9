"""The group normalization layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import check_eps, check_integer
from syncbn.functional.group_norm import normalize_groups
from syncbn.layers._affine import add_grads, beta, gamma, value_of
from syncbn.layers.module import Module
from syncbn.typing import Backward, FloatArray


class GroupNorm(Module):
    r"""Group normalization: statistics of each sample's groups of channels, in training and evaluation.

    Not collective.

    Parameters
    ----------
    num_groups : int
        Divides ``num_channels``.
    num_channels : int
        C, the size of x's channel axis.
    eps : float
    affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape (C,).
    bias : bool
        False: γ alone.
    dtype : dtype
        Of the parameters.
    channel_axis : int

    Raises
    ------
    ValueError, TypeError
        Bad parameters; from the call, bad input.

    References
    ----------
    Wu & He 2018, arXiv:1803.08494.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        super().__init__()
        self.num_groups = check_integer("num_groups", num_groups)
        self.num_channels = check_integer("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels, got {num_groups} and {num_channels}")
        self.eps = check_eps(eps)
        self.channel_axis = channel_axis
        self.weight = gamma(num_channels, dtype, affine)
        self.bias = beta(num_channels, dtype, affine and bias)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, _, gradients = normalize_groups(
            x,
            self.num_groups,
            value_of(self.weight),
            value_of(self.bias),
            self.eps,
            self.channel_axis,
            self.num_channels,
        )

        def backward(dy: FloatArray) -> FloatArray:
            dx, dweight, dbias = gradients(dy)
            add_grads((self.weight, dweight), (self.bias, dbias))
            return dx

        return y, backward
