"""Basic block of residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_flag, shown
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.nn._checks import Pair, check_pair, check_rng
from syncbn.nn.activations import ReLU
from syncbn.nn.conv2d import Conv2d
from syncbn.nn.init import Initializer, he_normal
from syncbn.nn.sequential import Sequential
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class ResidualBlock(Module):
    """Residual block: y = relu(branch(x) + shortcut(x)), branch = conv3x3, norm, relu, conv3x3, norm.

    The shortcut is the identity or, if the stride is not 1 or the channels change, a 1x1 convolution and a normalizer
    (option B of the paper).

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int or pair of int
        Stride of the first convolution and of the shortcut.
    norm : callable, optional
        ``norm(channels)`` returns a new normalizer. None means no normalization; only then do the convolutions have a
        bias, which the bias of a normalizer would make redundant.
    init, rng, dtype
        Arguments of the convolutions, as in `Dense`.
    zero_init_residual : bool
        Whether the weight γ of the last normalizer of the branch begins as 0 instead of 1, so that the block begins as
        its shortcut (Goyal et al. 2017, arXiv:1706.02677; the name is torchvision's).

    Attributes
    ----------
    branch, shortcut : Sequential
        The two paths; ``shortcut`` is empty for the identity.

    Raises
    ------
    TypeError
        ``norm`` does not return a Module.
    ValueError
        ``zero_init_residual`` is True, and the normalizer has no weight.

    See Also
    --------
    syncbn.nn.Sequential : Layers one after the other.

    References
    ----------
    He, Zhang, Ren & Sun 2016, Deep residual learning for image recognition.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import SyncBatchNorm, nn
    >>> block = nn.ResidualBlock(16, 32, stride=2, norm=SyncBatchNorm)
    >>> y, backward = block(np.ones((2, 16, 8, 8), np.float32))
    >>> y.shape
    (2, 32, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int | Sequence[int] = 1,
        norm: Callable[[int], Module] | None = None,
        *,
        init: Initializer = he_normal,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = np.float32,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        rng = check_rng(rng)
        stride = check_pair("stride", stride)
        if not (norm is None or callable(norm)):
            raise TypeError(f"norm must be a class of normalizers, such as BatchNorm, or None, got {shown(norm)}")
        bias = norm is None

        def convolution(channels: int, kernel: int, step: Pair) -> list[Module]:
            conv = Conv2d(channels, out_channels, kernel, step, kernel // 2, bias, init=init, rng=rng, dtype=dtype)
            return [conv] if norm is None else [conv, norm(out_channels)]

        first, second = convolution(in_channels, 3, stride), convolution(out_channels, 3, (1, 1))
        self.branch: Sequential = Sequential(*first, ReLU(), *second)
        same = in_channels == out_channels and stride == (1, 1)
        self.shortcut: Sequential = Sequential(*([] if same else convolution(in_channels, 1, stride)))
        self.relu: ReLU = ReLU()
        if check_flag("zero_init_residual", zero_init_residual):
            weight = getattr(self.branch[-1], "weight", None)
            if norm is None or not isinstance(weight, Parameter):
                raise ValueError("zero_init_residual needs a norm with a weight, the initial value of which is to be 0")
            weight.data[...] = 0

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y of shape (N, out_channels, OH, OW), in x's dtype, and its backward; errors as in `Conv2d`."""
        branch, branch_backward = self.branch(x)
        shortcut, shortcut_backward = self.shortcut(x)
        y, relu_backward = self.relu(branch + shortcut)

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> NDArray[ScalarT]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            dsum = relu_backward(dy)
            return branch_backward(dsum) + shortcut_backward(dsum)

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
