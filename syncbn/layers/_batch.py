"""Base class of normalizers with the statistics of batches, of one process or of all ranks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import DTypeLike

from syncbn._core.checks import Reduction, check_reduction
from syncbn.comm import SERIAL, Communicator
from syncbn.comm.signature import Direction
from syncbn.layers._running import RunningNormalizer
from syncbn.moments import Moments, pool
from syncbn.typing import FloatArray


class BatchNormalizer(RunningNormalizer):
    """A normalizer with the statistics of batches, which are those of this process alone until `_synchronize`.

    Parameters
    ----------
    num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis
        Parameters as described in `syncbn.BatchNorm`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        weight: bool,
        bias: bool,
        track_running_stats: bool,
        dtype: DTypeLike,
        channel_axis: int,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis)
        self.comm: Communicator = SERIAL
        self.reduction: Reduction = "exact"
        self._identity = type(self).__name__
        self._batches: Sequence[Moments] = ()

    @property
    def moments(self) -> Moments | None:
        """Count, mean and variance of the last batch in training; None before the first one."""
        return pool(self._batches) if self._batches else None

    def _synchronize(self, comm: Communicator, reduction: Reduction) -> None:
        """Use the statistics of all ranks of a communicator."""
        self.reduction = check_reduction(reduction)  # type: ignore[assignment]  # it is one of them
        self.comm = comm
        self._identity = comm._protocol.register_layer(type(self).__name__)
        for _, parameter in self.own_parameters():
            parameter.replicated = comm.size > 1

    def _observe(self, batches: Sequence[Moments]) -> None:
        """Update the running statistics with the moments of each batch."""
        self._batches = batches
        for moments in batches:
            if moments.count:
                self._track(moments.mean, moments.var, moments.bias_correction)

    def _call(self, *arguments: Any, **options: Any) -> Any:
        """Call `forward` and the forward hooks. Collective in training if the layer is, and so are its errors."""
        return self._collective("forward", super()._call)(*arguments, **options)

    __call__ = _call

    def _backward(self, gradients: Any) -> Callable[[FloatArray], Any]:
        backward = super()._backward(gradients)
        call = self._collective("backward", backward)
        return call if call is backward else functools.update_wrapper(call, backward, ("__doc__",), ())

    def _collective(self, direction: Direction, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``function`` so that its errors, such as an unknown keyword, are raised on all ranks."""
        if not self.training or self.comm._distributed is None:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return function(*arguments, **options)
            except Exception:
                protocol = self.comm._protocol
                with protocol.collective_errors(protocol.unknown_signature(direction, self._identity)):
                    raise

        return call
