"""A table of a network's layers, output shapes and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import numpy as np

from syncbn._core.checks import check_integer
from syncbn.layers.module import Module
from syncbn.nn.sequential import Sequential

_WIDTHS = 26, 24, 9  # of the columns, at least


def summary(model: Module, input_shape: Sequence[int], file: TextIO | None = None) -> str:
    """Return layers, output shapes and numbers of parameters, as Keras prints them.

    A `Sequential` has a row per direct layer, any other module one row in all. Shapes come from one
    forward on zeros in evaluation mode, so nothing communicates and no statistics move; every
    module's mode is restored.

    Parameters
    ----------
    model : Module
    input_shape : sequence of int
        Shape of one sample, without the batch axis.
    file : text file, optional
        Where to write the table too, such as ``sys.stdout``.

    Returns
    -------
    str
        "Param #" counts trainable and non-trainable numbers; the latter are running statistics
        (floating buffers). An array that several layers share counts once in the totals.

    Raises
    ------
    ValueError, TypeError
        The network doesn't take samples of ``input_shape``; from the layer concerned.
    """
    shape = [check_integer("input_shape", size) for size in input_shape]
    layers = list(model.named_children()) if isinstance(model, Sequential) else [("", model)]
    rows: list[tuple[str, ...]] = [("Layer (type)", "Output Shape", "Param #")]
    for (name, layer), output in zip(layers, _output_shapes(model, [layer for _, layer in layers], shape), strict=True):
        title = f"{name} ({type(layer).__name__})" if name else type(layer).__name__
        rows.append((title, f"({', '.join(['None', *map(str, output)])})", f"{sum(_count(layer)):,}"))
    trainable, fixed = _count(model)
    totals = [
        f"Total params: {trainable + fixed:,}",
        f"Trainable params: {trainable:,}",
        f"Non-trainable params: {fixed:,}",
    ]
    text = _table(f"Model: {type(model).__name__}", rows, totals)
    if file is not None:
        file.write(text + "\n")
    return text


def _output_shapes(model: Module, layers: list[Module], shape: list[int]) -> list[tuple[int, ...]]:
    dtype = next((parameter.data.dtype for parameter in model.parameters()), np.dtype(np.float32))
    # Two samples: normalizers without running statistics refuse one value per channel.
    x = np.zeros((2, *shape), dtype)
    shapes = []
    with model.evaluating():
        for layer in layers:
            x, _ = layer(x)
            shapes.append(x.shape[1:])
    return shapes


def _count(module: Module) -> tuple[int, int]:
    """Return the numbers of trainable and of non-trainable values."""
    trainable = {id(parameter): parameter.data.size for parameter in module.parameters()}
    fixed = {id(a): a.size for _, a in module.named_buffers() if np.issubdtype(a.dtype, np.floating)}
    return sum(trainable.values()), sum(fixed.values())


def _table(title: str, rows: list[tuple[str, ...]], totals: list[str]) -> str:
    widths = [
        max(minimum, *map(len, column)) + 2 for minimum, column in zip(_WIDTHS, zip(*rows, strict=True), strict=True)
    ]
    head, *body = (
        " " + "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    rule, double_rule = "_" * (sum(widths) + 1), "=" * (sum(widths) + 1)
    return "\n".join([title, rule, head, double_rule, *body, double_rule, *totals, rule])
