"""The group normalization layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_integer
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import BackwardOf, ScalarT


class GroupNorm(AffineNormalizer):
    r"""Group normalization, with the statistics of groups of channels of each sample.

    Not collective. Training and evaluation mode give the same result.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Each group of each sample has a mean μ and a biased variance var. γ and β have one value for each channel.

    Parameters
    ----------
    num_groups : int
        Number of groups, a divisor of ``num_channels``.
    num_channels : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variance, finite and at least 0.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape (C,).
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of the parameters. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments.

    See Also
    --------
    syncbn.functional.group_norm : The function.
    syncbn.WeightStandardization : Often used together.

    References
    ----------
    Wu & He 2018, arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import GroupNorm
    >>> x = np.random.default_rng(0).normal(5, 2, (2, 4, 3, 3)).astype(np.float32)
    >>> layer = GroupNorm(2, 4)  # 2 groups of 2 channels
    >>> y, backward = layer(x)
    >>> dx = backward(y)
    >>> layer.weight.grad.shape
    (4,)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        self.num_groups: int = check_integer("num_groups", num_groups)
        self.num_channels: int = check_integer("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels, got {num_groups} and {num_channels}")
        super().__init__(self.num_channels, check_eps(eps), affine, weight, bias, dtype)
        self.channel_axis: int = check_integer("channel_axis", channel_axis, None)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, {self._repr_affine()}"

    def forward(
        self, x: NDArray[ScalarT], mask: ArrayLike | None = None
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called.

        `syncbn.functional.group_norm` describes ``mask``.
        """
        y, *_, gradients = plans.group_norm(
            x, self.num_groups, *self._arrays(), self.eps, self.channel_axis, self.num_channels, mask
        )
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
