"""A sequence of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syncbn.layers.module import Module
from syncbn.nn.module_list import ModuleList
from syncbn.pitfalls import see
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Sequential(ModuleList):
    """Composition of layers: y = fₖ(… f₂(f₁(x))).

    Names, indices and slices are those of `ModuleList`.

    Parameters
    ----------
    *layers : Module

    Raises
    ------
    TypeError
        A layer isn't a Module.

    See Also
    --------
    syncbn.nn.ModuleList : Layers that a forward of your own calls.
    syncbn.Module : The base class.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import SyncBatchNorm, nn
    >>> model = nn.Sequential(nn.Dense(4, 8), SyncBatchNorm(8), nn.ReLU(), nn.Dense(8, 3))
    >>> logits, backward = model(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    >>> dx = backward(logits)  # calls the backward functions of the layers in reverse order
    >>> dx.shape
    (5, 4)
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y of the last layer and the backward through all layers.

        Raises
        ------
        TypeError, ValueError
            The error of a layer, with its position and class.
        """
        y: NDArray[Any] = x
        backwards = []
        for position, layer in enumerate(self._layers):
            try:
                y, layer_backward = layer(y)
            except (TypeError, ValueError) as error:
                _add_position(error, position, layer)
                raise
            backwards.append(layer_backward)

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            for position, layer_backward in reversed(list(enumerate(backwards))):
                try:
                    dy = layer_backward(dy)
                except (TypeError, ValueError) as error:
                    _add_origin(error, dy, position + 1, self._layers)
                    _add_position(error, position, self._layers[position])
                    raise
                if dy is None and position:  # of the first layer, it may have no meaning
                    raise TypeError(
                        f"{_first(position, self._layers[position])}: its backward returned None, expected dx, the "
                        f"gradient of the layer before it{see('layers-return-two-values')}"
                    )
            return dy

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward

    def _slice(self, layers: list[Module]) -> Sequential:
        return Sequential(*layers)


def _add_position(error: Exception, position: int, layer: Module) -> None:
    """Add the position of a layer to the text of its error, which collective calls must recognize: no new exception."""
    if len(error.args) == 1:
        error.args = (f"{_position(position, layer)}: {error}",)


def _add_origin(error: Exception, dy: object, position: int, layers: list[Module]) -> None:
    """Add to the text of an error about dy that the backward of the layer at this position, if any, has returned it."""
    if position < len(layers) and ("dy" in str(error).split() or not isinstance(dy, np.ndarray)):
        error.args = (f"{error} (dy is what the backward of {_first(position, layers[position])} returned)",)


def _position(position: int, layer: Module) -> str:
    return f"layer {position} ({type(layer).__name__})"


def _first(position: int, layer: Module) -> str:
    """Return the position of a layer, and inside of a sequence that of its first layer, whose dx is its own."""
    own = _position(position, layer)
    return f"{own}: {_first(0, layer[0])}" if isinstance(layer, Sequential) and len(layer) else own
