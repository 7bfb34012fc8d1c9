"""Two-dimensional convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_flag, check_integer
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter, unchanged
from syncbn.nn._checks import Pair, check_grad, check_input, check_pair, check_rng
from syncbn.nn._correlate import correlate
from syncbn.nn.init import Initializer, draw, he_normal
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Conv2d(Module):
    """Convolution as in PyTorch: y[n,o] = Σᵢ x[n,i] ⋆ w[o,i] + b[o], where ⋆ is cross-correlation.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding : int or pair of int
        Vertical and horizontal size; the padding consists of zeros.
    bias : bool
        Whether to add b, which is initialized to 0.
    init, rng, dtype
        As in `Dense`.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, KH, KW)
    bias : Parameter or None, shape (out_channels,)

    See Also
    --------
    syncbn.nn.Dense : Matrix product.
    syncbn.nn.he_normal : The default initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    >>> y, backward = layer(np.ones((2, 3, 8, 8), np.float32))
    >>> y.shape
    (2, 8, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        bias: bool = True,
        *,
        init: Initializer = he_normal,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.in_channels: int = check_integer("in_channels", in_channels)
        self.out_channels: int = check_integer("out_channels", out_channels)
        self.kernel_size: Pair = check_pair("kernel_size", kernel_size)
        self.stride: Pair = check_pair("stride", stride)
        self.padding: Pair = check_pair("padding", padding, minimum=0)
        rng = check_rng(rng)
        self.weight: Parameter = draw(init, (self.out_channels, self.in_channels, *self.kernel_size), rng, dtype)
        self.bias: Parameter | None = (
            Parameter(np.zeros(self.out_channels, dtype)) if check_flag("bias", bias) else None
        )

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}" + ", bias=False" * (self.bias is None)
        )

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y of shape (N, out_channels, OH, OW), in x's dtype and memory order, and its backward.

        OH = ⌊(H + 2·padding − KH)/stride⌋ + 1; OW is computed from W and KW by the same formula. x must not change
        until the backward.

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, in_channels, H, W), or is smaller than the kernel.
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_input("Conv2d", x, ("N", self.in_channels, "H", "W"))
        check_unchanged = unchanged("Conv2d", self.weight, self.bias, x)
        weight, bias = self.weight, self.bias
        y, gradients = correlate(x, weight.data, self.stride, self.padding)
        if bias is not None:
            y += bias.data.astype(x.dtype, copy=False)[:, None, None]
        y_shape, dtype = y.shape, y.dtype

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            check_unchanged()
            dy = check_grad("Conv2d", dy, y_shape, dtype)
            with np.errstate(all="ignore"):  # a decorator would take longer, in each forward
                dx, dweight = gradients(dy)
                weight.add_grad(dweight)
                if bias is not None:
                    bias.add_grad(np.einsum("nohw->o", dy, dtype=np.float64))  # twice as fast as sum
                return dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
