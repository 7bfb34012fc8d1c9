"""The fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_flag, check_integer
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter, unchanged
from syncbn.nn._checks import check_grad, check_input, check_rng
from syncbn.nn.init import Initializer, draw, he_normal
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Dense(Module):
    """Fully connected layer: y = x Wᵀ + b.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the second axes of x and y.
    bias : bool
        Whether to add b, which is initialized to 0.
    init : Initializer
        Function of (shape, rng, dtype) that draws W, such as `he_normal`.
    rng : numpy.random.Generator or int, optional
        Random number generator for W, or its seed. None means a new generator, so that values differ between runs and
        between ranks, until the trainer broadcasts those of rank 0. For reproducible runs, pass one seeded generator to
        all layers. ``numpy.random.seed`` has no effect.
    dtype : dtype
        Dtype of the parameters, float32 or float64.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter or None, shape (out_features,)

    See Also
    --------
    syncbn.nn.Conv2d : Convolution.
    syncbn.nn.he_normal : The default initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> layer = nn.Dense(4, 3, rng=np.random.default_rng(0))
    >>> y, backward = layer(np.ones((2, 4), np.float32))
    >>> dx = backward(np.ones_like(y))
    >>> dx.shape, layer.weight.grad.shape
    ((2, 4), (3, 4))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: Initializer = he_normal,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.in_features: int = check_integer("in_features", in_features)
        self.out_features: int = check_integer("out_features", out_features)
        rng = check_rng(rng)
        self.weight: Parameter = draw(init, (self.out_features, self.in_features), rng, dtype)
        self.bias: Parameter | None = (
            Parameter(np.zeros(self.out_features, dtype)) if check_flag("bias", bias) else None
        )

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y of shape (N, out_features), in x's dtype, and its backward, until which x must not change.

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, in_features).
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_input("Dense", x, ("N", self.in_features))
        check_unchanged = unchanged("Dense", self.weight, self.bias, x)
        weight, bias = self.weight, self.bias
        w_oi = weight.data.astype(x.dtype, copy=False)
        y = x @ w_oi.T
        if bias is not None:
            y += bias.data.astype(x.dtype, copy=False)
        y_shape, dtype = y.shape, y.dtype

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            check_unchanged()
            dy = check_grad("Dense", dy, y_shape, dtype)
            with np.errstate(all="ignore"):  # a decorator would take longer, in each forward
                weight.add_grad(dy.T @ x)
                if bias is not None:
                    bias.add_grad(dy.sum(axis=0, dtype=np.float64))
                return dy @ w_oi

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
