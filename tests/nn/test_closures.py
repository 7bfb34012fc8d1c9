from __future__ import annotations

import weakref

import numpy as np
import pytest

from syncbn.nn import AvgPool2d, Conv2d, Dense, Flatten, GlobalAvgPool2d, MaxPool2d, ReLU

LAYERS = [Conv2d(3, 4, 3), MaxPool2d(2), AvgPool2d(2), GlobalAvgPool2d(), ReLU(), Flatten(), Dense(4, 3)]


@pytest.mark.parametrize("layer", LAYERS, ids=[type(layer).__name__ for layer in LAYERS])
def test_backward_keeps_only_the_arrays_that_it_needs(layer):
    x = np.ones((4, 4) if isinstance(layer, Dense) else (2, 3, 4, 4), np.float32)
    y, backward = layer(x)
    dy = np.zeros_like(y)
    references = weakref.ref(x), weakref.ref(y)
    del x, y
    alive = [reference() is not None for reference in references]
    assert alive == [isinstance(layer, Dense), False]  # Dense's weight gradient needs x
    backward(dy)
