"""The group normalization layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_integer
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import Backward, FloatArray


class GroupNorm(AffineNormalizer):
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
        self.num_groups = check_integer("num_groups", num_groups)
        self.num_channels = check_integer("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels, got {num_groups} and {num_channels}")
        super().__init__(self.num_channels, check_eps(eps), affine, bias, dtype)
        self.channel_axis = channel_axis

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, *_, gradients = plans.group_norm(
            x, self.num_groups, *self._arrays(), self.eps, self.channel_axis, self.num_channels
        )
        return y, self._backward(gradients)
