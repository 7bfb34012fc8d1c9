"""The filter response normalization layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_channels, check_eps, check_flag, check_input, check_integer
from syncbn.functional.filter_response_norm import filter_response_norm
from syncbn.layers._affine import AffineNormalizer
from syncbn.layers.parameter import Parameter, floating_dtype, unchanged
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class FilterResponseNorm(AffineNormalizer):
    r"""Filter response normalization of each channel of each sample, with a thresholded linear unit (TLU).

    Not collective. Training and evaluation mode give the same result.

    .. math:: y = \max\left(γ\,\frac{x}{\sqrt{ν^2 + \mathrm{eps}}} + β,\; τ\right)

    ν² is the mean of x² over the trailing axes of one channel of one sample. The TLU is the activation: no ReLU
    follows.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the mean square, finite and at least 0.
    tlu : bool
        Whether there is τ (``tau``). Otherwise y is the first argument of the maximum.
    weight, bias : bool
        Whether there is γ, and whether there is β.
    dtype : dtype
        Dtype of the parameters. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Attributes
    ----------
    weight, bias, tau : Parameter or None
        γ, β and τ, of shape (C,); initially 1, 0 and 0.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments.

    See Also
    --------
    syncbn.functional.filter_response_norm : The function.

    References
    ----------
    Singh & Krishnan 2020, arXiv:1911.09737. The names of the parameters are those of timm's FilterResponseNormTlu2d.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import FilterResponseNorm
    >>> x = np.random.default_rng(0).normal(5, 2, (2, 4, 3, 3)).astype(np.float32)
    >>> y, backward = FilterResponseNorm(4)(x)
    >>> y.shape
    (2, 4, 3, 3)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-6,
        tlu: bool = True,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        self.num_features: int = check_integer("num_features", num_features)
        super().__init__(self.num_features, check_eps(eps), True, weight, bias, dtype)
        tau = np.zeros(num_features, floating_dtype(dtype))
        self.tau: Parameter | None = Parameter(tau, decay=False) if check_flag("tlu", tlu) else None
        self.channel_axis: int = check_integer("channel_axis", channel_axis, None)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{self.num_features}, eps={self.eps}, tlu={self.tau is not None}"

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called."""
        x, axis = check_input(x, self.channel_axis)
        check_channels(x.shape, axis, self.num_features)
        parameters = (self.weight, self.bias, self.tau)
        name = type(self).__name__
        checks = unchanged(name, self.weight, self.bias), unchanged(name, self.tau, None)
        arrays = (None if parameter is None else parameter.data for parameter in parameters)
        y, gradients = filter_response_norm(x, *arrays, eps=self.eps or 0.0, channel_axis=axis)

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            for check in checks:
                check()
            dx, *found = gradients(dy)
            for parameter, gradient in zip(parameters, found, strict=True):
                if parameter is not None and gradient is not None:
                    parameter.add_grad(gradient)
            return dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
