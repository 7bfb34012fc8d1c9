"""Batch normalization layers for PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from syncbn._core.checks import check_eps, check_integer, check_momentum
from syncbn.comm import CommLike, Communicator, SyncError
from syncbn.torch import operators
from syncbn.torch.groups import Group, group_of
from syncbn.torch.running_statistics import forward_is_repeated, track
from syncbn.torch.tensors import check_input


class BatchNorm(_BatchNorm):
    """Batch normalization of PyTorch, with local statistics, for inputs of 2 or more axes.

    Not collective. `revert_sync_batchnorm` makes it of a layer whose original class is unknown. The parameters are
    those of ``torch.nn.BatchNorm2d``.

    See Also
    --------
    syncbn.torch.SyncBatchNorm : The synchronized layer.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import BatchNorm
    >>> BatchNorm(3)(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # the name of the base class
        if input.dim() < 2:
            raise ValueError(f"expected an input of 2 or more axes, got shape {tuple(input.shape)}")


class SyncBatchNorm(BatchNorm):
    r"""Batch normalization of CPU tensors with the statistics of the batches of all ranks.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Collective in training: every rank must call forward, and then backward. Evaluation never communicates.

    A replacement for ``torch.nn.SyncBatchNorm``, which raises on CPU tensors. Results of training are those of
    ``torch.nn.BatchNorm2d`` on the concatenated batch, for ranks with different numbers of samples, or none. y, dx and
    running statistics have the same bits for every number of ranks and every split of the samples. The running variance
    is unbiased with the number of values over all ranks. Gradients of weight and bias are local sums of this rank, as
    in PyTorch: DistributedDataParallel or `average_gradients` averages them.

    If any rank needs gradients, all ranks take part in the backward: y requires a gradient on all ranks, also where
    neither the input nor a parameter does. Ranks agree on this in the forward.

    A forward that activation checkpointing (``torch.utils.checkpoint``) repeats in the backward does not update the
    running statistics again.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of axis 1.
    eps : float
        Constant added to the variance, finite and at least 0.
    momentum : float or None
        Weight of the new value in the running statistics. None means the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
        Whether there are running statistics.
    process_group : torch.distributed.ProcessGroup, optional
        Ranks that share the statistics, over torch.distributed.
    device, dtype
        Device and dtype of parameters and buffers.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the statistics. Without comm and process_group, each call uses the ranks of MPI if there are
        several, else the default process group of torch.distributed if it is initialized, else this process alone.
    bias : bool
        Whether there is β, if ``affine`` is True.

    Raises
    ------
    ValueError, TypeError
        Invalid arguments of this rank, or a single value per channel over all ranks.
    SyncMismatchError
        From the call: another rank had invalid input, made a different call, or calls without gradients.
    SyncLostRankError, SyncTimeoutError
        From the call: another rank did not enter it.
    RuntimeError
        From the call: several processes were launched, but neither MPI nor torch.distributed connects them.

    See Also
    --------
    syncbn.torch.convert_sync_batchnorm : Convert a model.
    syncbn.torch.TorchComm : The ranks of torch.distributed.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import SyncBatchNorm
    >>> layer = SyncBatchNorm(3)
    >>> x = torch.randn(8, 3, requires_grad=True)
    >>> layer(x).square().sum().backward()
    >>> x.grad.shape
    torch.Size([8, 3])
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    >>> model = SyncBatchNorm.convert_sync_batchnorm(model)
    >>> type(model[1]).__name__
    'SyncBatchNorm'
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        comm: CommLike = None,
        bias: bool = True,
    ) -> None:
        check_integer("num_features", num_features, 0)
        check_eps(eps)
        check_momentum(momentum)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._share(group_of(comm, process_group), BatchNorm)

    def _share(self, group: Group, original: type) -> None:
        """Set the ranks that share the statistics, and the class that `revert_sync_batchnorm` restores."""
        self._group = group
        self._identity = group.identify(operators.LAYER)
        self._original = original

    @classmethod
    def convert_sync_batchnorm(cls, module: torch.nn.Module, process_group: Any = None) -> torch.nn.Module:
        """Replace the batch normalization layers of a model by this class, as `syncbn.torch.convert_sync_batchnorm`."""
        from syncbn.torch.conversion import convert

        return convert(module, process_group, None, cls)

    @property
    def comm(self) -> Communicator:
        """Communicator of the ranks that share the statistics. Collective where it has to be made."""
        return self._group.find()

    @property
    def process_group(self) -> Any:
        """Process group of torch.distributed that was passed to the constructor, or None."""
        return self._group.process_group

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name of the base class
        """Return y, with the dtype and memory format of ``input``. Collective in training, and so are its errors."""
        if torch.compiler.is_compiling() or not self.training:
            return self._normalize(input)
        try:
            return self._normalize(input)
        except SyncError:  # the other ranks raise it too
            raise
        except Exception:
            protocol = self.comm._protocol
            with protocol.collective_errors(protocol.unknown_signature("forward", self._identity)):
                raise

    def _normalize(self, x: Tensor) -> Tensor:
        check_input(x)
        running = (self.running_mean, self.running_var) if not self.training else (None, None)
        parameters = self.weight, self.bias
        mode, anchor = operators.EVALUATION, None
        if self.training:
            mode = operators.NO_GRAD
            if torch.is_grad_enabled():
                needed = any(each is not None and each.requires_grad for each in (x, *parameters))
                mode = operators.GRAD if needed else operators.GRAD_UNUSED
                anchor = None if needed else operators.ANCHOR
        y, moments, numbers = operators.normalize(
            x, *parameters, anchor, *running, None, self.eps, self.num_features, self._group.key, self._identity, mode
        )
        if self.training and self.running_mean is not None and self.track_running_stats and not forward_is_repeated():
            track(self.running_mean, self.running_var, self.num_batches_tracked, moments, numbers, self.momentum)
        if anchor is not None and not torch.compiler.is_compiling() and not numbers[2]:
            y = y.detach()
        return y
