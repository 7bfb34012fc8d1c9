"""Conversion of models to synchronized batch normalization, and back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from syncbn.comm import CommLike
from syncbn.torch.groups import group_of
from syncbn.torch.layer import BatchNorm, SyncBatchNorm
from syncbn.torch.tensors import check_module

_LOCAL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNorm)
_SYNCHRONIZED = (nn.SyncBatchNorm, SyncBatchNorm)

_OF_MORE = (
    "they add to batch normalization, so convert_sync_batchnorm leaves them alone. Replace them by a normalizer and "
    "what follows it"
)
_LAZY = "they have no size yet. Convert the model again after its first batch"

_HARMLESS = {"__annotations__", "__annotate_func__", "__annotations_cache__", "__doc__", "__firstlineno__", "__init__"}
_HARMLESS |= {"__module__", "__parameters__", "__qualname__", "__static_attributes__"}
"""Names that a subclass may define without another behaviour of its instances."""


def convert_sync_batchnorm(module: nn.Module, process_group: Any = None, comm: CommLike = None) -> nn.Module:
    """Replace the batch normalization layers of a model by `SyncBatchNorm`.

    Collective where the communicator of ``process_group`` or ``comm`` has to be made.

    BatchNorm1d to 3d, torch's SyncBatchNorm and syncbn's are replaced. New layers share parameters, buffers and hooks
    with the old ones, and have their training mode; a layer that occurs several times remains one. Layers whose class
    adds to these, such as timm's BatchNormAct2d, are left alone with a warning, and so are lazy layers.

    Parameters
    ----------
    module : torch.nn.Module
        Model, which is changed in place; or a single layer, which is not.
    process_group, comm
        Ranks that share the statistics, as described in `SyncBatchNorm`.

    Returns
    -------
    torch.nn.Module
        ``module``, or the new layer.

    Raises
    ------
    TypeError, ValueError
        ``module`` is not a Module, or the group is invalid.

    See Also
    --------
    syncbn.torch.revert_sync_batchnorm : The other direction.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import convert_sync_batchnorm
    >>> model = convert_sync_batchnorm(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)))
    >>> type(model[1]).__name__, list(model.state_dict())[2:4]
    ('SyncBatchNorm', ['1.weight', '1.bias'])
    """
    return convert(module, process_group, comm, SyncBatchNorm)


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace syncbn's and torch's SyncBatchNorm by local batch normalization.

    Not collective. Layers that `convert_sync_batchnorm` made get the class that they had, all others `BatchNorm`, which
    takes inputs of 2 or more axes. Parameters, buffers, hooks and training mode are kept.

    Parameters
    ----------
    module : torch.nn.Module
        Model, which is changed in place; or a single layer, which is not.

    Returns
    -------
    torch.nn.Module
        ``module``, or the new layer.

    Raises
    ------
    TypeError
        ``module`` is not a Module.

    See Also
    --------
    syncbn.torch.convert_sync_batchnorm : The other direction.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import convert_sync_batchnorm, revert_sync_batchnorm
    >>> model = convert_sync_batchnorm(torch.nn.Sequential(torch.nn.BatchNorm2d(8)))
    >>> type(revert_sync_batchnorm(model)[0]).__name__
    'BatchNorm2d'
    """

    def replace(layer: nn.Module) -> nn.Module | None:
        if _base_of(layer, _SYNCHRONIZED) is None:
            return None
        added = ("_group", "_identity", "_original", "process_group")
        attributes = {name: value for name, value in vars(layer).items() if name not in added}
        return _with_state(getattr(layer, "_original", BatchNorm), attributes)

    return _replace(module, replace)


def convert(module: nn.Module, process_group: Any, comm: CommLike, kind: type[SyncBatchNorm]) -> nn.Module:
    """Convert as `convert_sync_batchnorm`, to layers of the class ``kind``. Collective as that."""
    group = group_of(comm, process_group)
    left: dict[str, dict[str, None]] = {_OF_MORE: {}, _LAZY: {}}  # names of classes, in order

    def replace(layer: nn.Module) -> nn.Module | None:
        base = _base_of(layer, (*_LOCAL, *_SYNCHRONIZED))
        if base is None:
            if isinstance(layer, _BatchNorm):
                left[_LAZY if isinstance(layer, LazyModuleMixin) else _OF_MORE][type(layer).__name__] = None
            return None
        attributes = {name: value for name, value in vars(layer).items() if name != "process_group"}
        converted: SyncBatchNorm = _with_state(kind, attributes)
        original = attributes.get("_original", BatchNorm if isinstance(layer, _SYNCHRONIZED) else base)
        converted._share(group, original)
        return converted

    converted = _replace(module, replace)
    for reason, names in left.items():
        if names:
            warnings.warn(f"layers of the classes {', '.join(names)} keep local statistics: {reason}", stacklevel=3)
    return converted


def _base_of(layer: nn.Module, known: tuple[type, ...]) -> type | None:
    """Return the class of a layer, if it is one of ``known`` or behaves like one; None for any other."""
    kind = type(layer)
    for base in kind.__mro__:
        if base in known:
            return kind if not layer._modules else None
        if not vars(base).keys() <= _HARMLESS:
            return None
    return None


def _with_state(kind: Any, attributes: dict[str, Any]) -> Any:
    """Return an instance with these attributes. It shares tensors and hooks, but not the tables of its tensors."""
    layer = kind.__new__(kind)
    tables = {name: copy.copy(attributes[name]) for name in ("_parameters", "_buffers", "_modules")}
    layer.__dict__.update(attributes, **tables)
    return layer


def _replace(module: nn.Module, replace: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Replace modules by what the function returns for them, unless that is None; each module once."""
    check_module(module)
    replaced: dict[nn.Module, nn.Module] = {}
    for each in list(module.modules()):
        replaced[each] = replace(each) or each
    for each in replaced.values():
        for name, child in each._modules.items():
            if child is not None and replaced[child] is not child:
                each._modules[name] = replaced[child]
    return replaced[module]
