"""Batch normalization with fixed statistics and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_integer, shown
from syncbn.layers._batch import BatchNormalizer
from syncbn.layers._replace import replace_modules
from syncbn.layers.module import Module
from syncbn.layers.parameter import floating_dtype
from syncbn.typing import BackwardOf, FloatArray, ResidualBackwardOf, ScalarT


class FrozenBatchNorm(Module):
    r"""Batch normalization whose statistics, γ and β never change.

    .. math:: y = γ\,\frac{x - \text{running_mean}}{\sqrt{\text{running_var} + \mathrm{eps}}} + β

    Not collective. Training and evaluation mode give the same result. γ, β and the statistics are buffers instead of
    parameters: they receive no gradient and are loaded by ``load_state_dict``, which ignores
    ``num_batches_tracked``. To keep the statistics alone fixed, and train γ and β, call `eval` of each `BatchNorm`
    after ``model.train()`` instead.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variance, finite and at least 0.
    dtype : dtype
        Dtype of the buffers. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Attributes
    ----------
    weight, bias : ndarray
        γ and β, of shape (C,); initially 1 and 0.
    running_mean, running_var : ndarray
        Statistics, of shape (C,); initially 0 and 1.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments.

    See Also
    --------
    syncbn.functional.batch_norm_inference : The function.
    syncbn.nn.fuse : Fold the layer into an adjacent one.

    References
    ----------
    ``torchvision.ops.FrozenBatchNorm2d`` and ``detectron2.layers.FrozenBatchNorm2d``, which have the same names.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchNorm, FrozenBatchNorm, nn
    >>> model = nn.Sequential(nn.Dense(4, 3), BatchNorm(3))
    >>> model = FrozenBatchNorm.convert_frozen_batchnorm(model)
    >>> len(list(model.parameters()))  # those of the dense layer
    2
    """

    weight: FloatArray
    bias: FloatArray
    running_mean: FloatArray
    running_var: FloatArray

    def __init__(
        self, num_features: int, eps: float = 1e-5, *, dtype: DTypeLike = np.float32, channel_axis: int = 1
    ) -> None:
        super().__init__()
        self.num_features: int = check_integer("num_features", num_features)
        self.eps: float = check_eps(eps)
        self.channel_axis: int = check_integer("channel_axis", channel_axis, None)
        dtype = floating_dtype(dtype)
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, np.full(num_features, value, dtype))

    @classmethod
    def convert_frozen_batchnorm(cls, module: Module) -> Module:
        """Return the module with every batch normalization layer inside replaced by a frozen copy.

        Modules inside are replaced in ``module`` itself, in place. Their γ and β are no parameters any more, so make
        the optimizer afterwards.

        Parameters
        ----------
        module : Module
            A network, or a single layer.

        Raises
        ------
        ValueError, TypeError
            A layer has no running statistics, or ``module`` is not a Module. Then nothing has changed.
        """
        if not isinstance(module, Module):
            raise TypeError(f"module must be a Module, such as a Sequential, got {shown(module)}")
        for name, layer in module.named_modules():
            if isinstance(layer, BatchNormalizer) and layer.running_mean is None:
                raise ValueError(
                    f"layer {name!r} has no running statistics to freeze: build it with track_running_stats=True"
                )
        return replace_modules(
            module, lambda layer: cls._frozen(layer) if isinstance(layer, BatchNormalizer) else layer
        )

    @classmethod
    def _frozen(cls, layer: BatchNormalizer) -> FrozenBatchNorm:
        """Return a frozen copy of a layer with running statistics."""
        dtype = np.asarray(layer.running_mean).dtype
        frozen = cls(layer.num_features, layer.eps or 0.0, dtype=dtype, channel_axis=layer.channel_axis)
        frozen.load_state_dict(layer.state_dict(), strict=False)
        frozen.training = layer.training
        return frozen

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{self.num_features}, eps={self.eps}"

    @overload
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,
        *,
        residual: None = None,
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]: ...
    @overload
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,
        *,
        residual: NDArray[ScalarT],
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], ResidualBackwardOf[ScalarT]]: ...
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,  # noqa: ARG002 (as BatchNorm)
        *,
        residual: NDArray[ScalarT] | None = None,
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], Any]:
        """Return y and its backward, which returns dx, or with a residual (dx, dresidual).

        `syncbn.functional.batch_norm_inference` describes ``residual``, ``relu`` and ``out``. A mask has no effect, as
        in the evaluation of `BatchNorm`.
        """
        y, gradients = plans.batch_norm_inference(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.eps,
            self.channel_axis,
            residual,
            relu,
            out,
            self.num_features,
        )

        def backward(dy: FloatArray) -> Any:
            """Return dL/dx, given dL/dy, and with a residual also dL/dresidual."""
            dx, _, _, *dresidual = gradients(dy)
            return (dx, *dresidual) if dresidual else dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
