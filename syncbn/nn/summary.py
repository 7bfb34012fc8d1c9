"""A table of the layers of a network with output shapes and numbers of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import numpy as np

from syncbn.layers.module import Module
from syncbn.nn._checks import check_sample_shape, sample_of_shape
from syncbn.nn._html import html_table
from syncbn.nn.sequential import Sequential

_WIDTHS = 26, 24, 9  # minimum widths of the columns


class Summary(str):
    """The text of a `summary`, which notebooks show as a table.

    Parameters
    ----------
    text : str
    html : str
        The same as an HTML table.

    See Also
    --------
    syncbn.nn.summary : The function that returns it.

    Examples
    --------
    >>> from syncbn import nn
    >>> table = nn.summary(nn.Sequential(nn.Dense(4, 2)), (4,))
    >>> "Total params: 10" in table
    True
    """

    def __new__(cls, text: str, html: str = "") -> Summary:  # noqa: D102, ARG004 (`__init__` takes it)
        return super().__new__(cls, text)

    def __init__(self, text: str, html: str = "") -> None:  # noqa: ARG002 (`__new__` takes it)
        self._html = html

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._html


def summary(model: Module, input_shape: Sequence[int], file: TextIO | None = None) -> Summary:
    """Return layers, output shapes and numbers of parameters in the format of Keras.

    A `Sequential` has one row per direct layer, any other module a single row. Shapes are determined by a forward on
    zeros in evaluation mode, which does not communicate or update statistics; the modes of all modules are restored.

    Parameters
    ----------
    model : Module
    input_shape : sequence of int
        Shape of one sample, without the batch axis.
    file : text file, optional
        Also write the table to this file, such as ``sys.stdout``.

    Returns
    -------
    Summary
        The table, a str that notebooks show as a table. "Param #" includes trainable numbers and non-trainable ones,
        which are running statistics (floating buffers). The totals count an array that several layers share once.

    Raises
    ------
    ValueError
        The network does not accept samples of ``input_shape``; the message ends with that of the layer concerned.
    TypeError
        ``input_shape`` is not a sequence of integers.

    See Also
    --------
    syncbn.nn.Summary : Its result.

    Examples
    --------
    >>> from syncbn import BatchNorm, nn
    >>> print(nn.summary(nn.Sequential(nn.Dense(784, 64), BatchNorm(64), nn.ReLU(), nn.Dense(64, 10)), (784,)))
    Model: Sequential
    __________________________________________________________________
     Layer (type)                Output Shape              Param #
    ==================================================================
     0 (Dense)                   (None, 64)                50,240
     1 (BatchNorm)               (None, 64)                256
     2 (ReLU)                    (None, 64)                0
     3 (Dense)                   (None, 10)                650
    ==================================================================
    Total params: 51,146
    Trainable params: 51,018
    Non-trainable params: 128
    __________________________________________________________________
    """
    shape = check_sample_shape(input_shape)
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
    title = f"Model: {type(model).__name__}"
    text = _table(title, rows, totals)
    if file is not None:
        file.write(text + "\n")
    return Summary(text, html_table(rows, title, totals))


def _output_shapes(model: Module, layers: list[Module], shape: list[int]) -> list[tuple[int, ...]]:
    dtype = next((parameter.data.dtype for parameter in model.parameters()), np.dtype(np.float32))
    # Two samples, because normalizers without running statistics raise for one value per channel.
    x = np.zeros((2, *shape), dtype)
    shapes = []
    with model.evaluating(), sample_of_shape(shape):
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
