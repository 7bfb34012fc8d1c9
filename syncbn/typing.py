"""Types of arrays and functions that signatures use."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Float64Array: TypeAlias = NDArray[np.float64]
Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

ScalarT = TypeVar("ScalarT", bound=np.floating[Any])
"""The type of x's values, which y and dx have too."""

ScalarT_co = TypeVar("ScalarT_co", bound=np.floating[Any], covariant=True)


class BackwardOf(Protocol[ScalarT_co]):
    """The backward of a layer's call: ``dx = backward(dy)``, for x with values of the type ``ScalarT_co``."""

    def __call__(self, dy: FloatArray, /) -> NDArray[ScalarT_co]:
        """Return dL/dx, given dL/dy, and add to the ``grad`` of each parameter. Collective if the forward was."""


class ResidualBackwardOf(Protocol[ScalarT_co]):
    """The backward of a layer's call with a residual: ``dx, dresidual = backward(dy)``."""

    def __call__(self, dy: FloatArray, /) -> tuple[NDArray[ScalarT_co], NDArray[ScalarT_co]]:
        """Return dL/dx and dL/dresidual, given dL/dy, and add to the ``grad`` of each parameter."""


class AffineBackwardOf(Protocol[ScalarT_co]):
    """The backward of a function with a weight and a bias: ``dx, dweight, dbias = backward(dy)``."""

    def __call__(self, dy: FloatArray, /) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None]:
        """Return the gradients of x, weight and bias, given that of y; None for a missing parameter."""


Backward: TypeAlias = BackwardOf[np.floating[Any]]
"""The backward of a layer: it adds to the ``grad`` of each parameter and returns dL/dx, given dL/dy."""
