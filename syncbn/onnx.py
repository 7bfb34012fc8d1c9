"""Export of trained networks to ONNX, for inference elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syncbn.files import check_path, write_atomically
from syncbn.layers import (
    BatchNorm,
    FrozenBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Module,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.nn import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    ResidualBlock,
    Sequential,
    Sigmoid,
    Tanh,
)
from syncbn.nn._checks import check_sample_shape, sample_of_shape

OPSET = 21
"""Version of the ONNX operators: the first one whose GroupNormalization has a scale for each channel."""

IR_VERSION = 10
"""Version of the file format, that of `OPSET`, so that programs of that time can read it."""

_FLOAT64 = 11
"""Number of the type in ONNX."""


def export(model: Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> None:
    """Write a network in evaluation mode as an ONNX model with the input "x" and the output "y".

    Not collective: on several ranks, call it on one of them.

    Batch normalization uses the running statistics, and dropout is left out. Fold batch normalization into other layers
    before, if you like: ``export(nn.fuse(model), ...)``. x and y are float32, or float64 if parameters are.

    Parameters
    ----------
    model : Module
        `nn.Sequential` or another layer of this package, also nested: `nn.ResidualBlock`, ``nn.Dense``, ``nn.Conv2d``,
        activations, pooling, ``nn.Flatten``, ``nn.Dropout``, and all normalization layers. It is not changed.
    path : str or path
        File to write, such as "model.onnx". It is replaced when the new one is complete.
    input_shape : sequence of int
        Shape of one sample, without the batch axis, as for `nn.summary`. The batch axis of the model has any size.

    Raises
    ------
    ImportError
        The package onnx is missing.
    TypeError
        A layer has no equivalent in ONNX, such as a Module of your own; the message has its name.
    ValueError
        The network does not accept samples of ``input_shape``; the message ends with that of the layer concerned.
    OSError
        The file cannot be written.

    See Also
    --------
    syncbn.nn.fuse : Fold batch normalization before.

    References
    ----------
    ONNX operators: https://onnx.ai/onnx/operators

    Examples
    --------
    >>> import syncbn.onnx
    >>> from syncbn import BatchNorm, nn
    >>> model = nn.Sequential(nn.Dense(784, 64), BatchNorm(64), nn.ReLU(), nn.Dense(64, 10))
    >>> syncbn.onnx.export(nn.fuse(model), "model.onnx", (784,))
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("syncbn.onnx needs the package onnx: pip install 'syncbn[onnx]'") from error
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    for name, layer in model.named_modules():
        if type(layer) not in _CONVERTERS:
            known = ", ".join(sorted(kind.__name__ for kind in _CONVERTERS))
            where = f"layer {name}, " if name else ""
            raise TypeError(f"{where}{type(layer).__name__}, has no equivalent in ONNX: export a network of {known}")
    shape = check_sample_shape(input_shape)
    file = check_path("path", path)
    dtype = np.result_type(np.float32, *(parameter.data for parameter in model.parameters()))
    graph = _Graph(onnx.helper, dtype)
    with model.evaluating(), sample_of_shape(shape):
        # Two samples, because normalizers without running statistics raise for one value per channel.
        y = graph.add(model, _Value("x", np.zeros((2, *shape), dtype)))
    graph.nodes.append(onnx.helper.make_node("Identity", [y.name], ["y"]))
    element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    content = onnx.helper.make_graph(
        graph.nodes,
        type(model).__name__,
        [onnx.helper.make_tensor_value_info("x", element, ["N", *shape])],
        [onnx.helper.make_tensor_value_info("y", element, ["N", *y.array.shape[1:]])],
        graph.arrays,
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    made = onnx.helper.make_model(content, opset_imports=opsets, ir_version=IR_VERSION, producer_name="syncbn")
    onnx.checker.check_model(made, full_check=True)
    write_atomically(file, made.SerializeToString())


class _Value(NamedTuple):
    """A value of the graph, and the array that a forward gives there."""

    name: str
    array: NDArray[Any]


class _Graph:
    """The nodes and constants of an ONNX graph."""

    def __init__(self, helper: Any, dtype: np.dtype[Any]) -> None:
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self._helper = helper
        self._dtype = dtype

    def add(self, layer: Module, x: _Value) -> _Value:
        """Add the nodes of a layer, and return its result."""
        y, _ = layer(x.array)
        return _Value(_CONVERTERS[type(layer)](self, layer, x), y)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: ArrayLike, dtype: Any = None) -> str:
        """Add a constant array, and return its name."""
        array = np.ascontiguousarray(values, dtype or self._dtype)
        name = f"constant_{len(self.arrays)}"
        element = self._helper.np_dtype_to_tensor_dtype(array.dtype)
        self.arrays.append(self._helper.make_tensor(name, element, array.shape, array.tobytes(), raw=True))
        return name

    def affine(self, layer: Any, shape: int | tuple[int, ...]) -> tuple[str, str]:
        """Add γ and β of a layer, 1 and 0 where it has none, and return their names."""
        weight = np.ones(shape) if layer.weight is None else np.asarray(layer.weight)
        bias = np.zeros(shape) if layer.bias is None else np.asarray(layer.bias)
        return self.constant(weight), self.constant(bias)

    def with_channels_first(self, x: _Value, channel_axis: int, add: Callable[[str], str]) -> str:
        """Add nodes that have channels on axis 1, and transpositions around them if x has not."""
        axes = list(range(x.array.ndim))
        axes.insert(1, axes.pop(channel_axis))
        if axes == sorted(axes):
            return add(x.name)
        y = add(self.node("Transpose", x.name, perm=axes))
        return self.node("Transpose", y, perm=np.argsort(axes).tolist())


_Converter = Callable[[_Graph, Any, _Value], str]
ConverterT = TypeVar("ConverterT", bound=_Converter)

_CONVERTERS: dict[type[Module], _Converter] = {}
"""Functions that add the nodes of a layer to a graph and return the name of the result, by class.

A subclass may compute something else, so it is not converted as its base class is.
"""


def _converts(*kinds: type[Module]) -> Callable[[ConverterT], ConverterT]:
    def register(converter: ConverterT) -> ConverterT:
        _CONVERTERS.update(dict.fromkeys(kinds, converter))
        return converter

    return register


@_converts(Sequential)
def _sequential(graph: _Graph, layers: Sequential, x: _Value) -> str:
    for layer in layers:
        x = graph.add(layer, x)
    return x.name


@_converts(ResidualBlock)
def _residual_block(graph: _Graph, block: ResidualBlock, x: _Value) -> str:
    total = graph.node("Add", graph.add(block.branch, x).name, graph.add(block.shortcut, x).name)
    return graph.node("Relu", total)


@_converts(Dense)
def _dense(graph: _Graph, layer: Dense, x: _Value) -> str:
    bias = [] if layer.bias is None else [graph.constant(layer.bias.data)]
    return graph.node("Gemm", x.name, graph.constant(layer.weight.data), *bias, transB=1)


@_converts(Conv2d)
def _conv2d(graph: _Graph, layer: Conv2d, x: _Value) -> str:
    bias = [] if layer.bias is None else [graph.constant(layer.bias.data)]
    return graph.node("Conv", x.name, graph.constant(layer.weight.data), *bias, **_window(layer))


@_converts(WeightNorm)
def _weight_norm(graph: _Graph, layer: WeightNorm, x: _Value) -> str:
    return graph.add(layer.module, x).name  # the forward of `layer` has given it the weight


@_converts(ReLU)
def _relu(graph: _Graph, _: ReLU, x: _Value) -> str:
    return graph.node("Relu", x.name)


@_converts(Sigmoid)
def _sigmoid(graph: _Graph, _: Sigmoid, x: _Value) -> str:
    return graph.node("Sigmoid", x.name)


@_converts(Tanh)
def _tanh(graph: _Graph, _: Tanh, x: _Value) -> str:
    return graph.node("Tanh", x.name)


@_converts(Dropout)
def _dropout(_: _Graph, __: Dropout, x: _Value) -> str:
    return x.name


@_converts(Flatten)
def _flatten(graph: _Graph, _: Flatten, x: _Value) -> str:
    return graph.node("Flatten", x.name)


@_converts(MaxPool2d)
def _max_pool(graph: _Graph, layer: MaxPool2d, x: _Value) -> str:
    return graph.node("MaxPool", x.name, **_window(layer))


@_converts(AvgPool2d)
def _avg_pool(graph: _Graph, layer: AvgPool2d, x: _Value) -> str:
    return graph.node("AveragePool", x.name, count_include_pad=1, **_window(layer))


@_converts(GlobalAvgPool2d)
def _global_avg_pool(graph: _Graph, _: GlobalAvgPool2d, x: _Value) -> str:
    return graph.node("Flatten", graph.node("GlobalAveragePool", x.name))


@_converts(BatchNorm, SyncBatchNorm, FrozenBatchNorm)
def _batch_norm(graph: _Graph, layer: BatchNorm | FrozenBatchNorm | InstanceNorm, x: _Value) -> str:
    if layer.running_mean is None or layer.running_var is None:
        raise TypeError(
            f"{type(layer).__name__} without running statistics has no equivalent in ONNX: it normalizes by the batch; "
            "build it with track_running_stats=True"
        )
    arrays = [
        *graph.affine(layer, layer.num_features),
        graph.constant(layer.running_mean),
        graph.constant(layer.running_var),
    ]

    def add(x: str) -> str:
        return graph.node("BatchNormalization", x, *arrays, epsilon=layer.eps)

    return graph.with_channels_first(x, layer.channel_axis, add)


@_converts(InstanceNorm)
def _instance_norm(graph: _Graph, layer: InstanceNorm, x: _Value) -> str:
    if layer.running_mean is not None:
        return _batch_norm(graph, layer, x)
    arrays = graph.affine(layer, layer.num_features)

    def add(x: str) -> str:
        return graph.node("InstanceNormalization", x, *arrays, epsilon=layer.eps)

    return graph.with_channels_first(x, layer.channel_axis, add)


@_converts(GroupNorm)
def _group_norm(graph: _Graph, layer: GroupNorm, x: _Value) -> str:
    arrays = graph.affine(layer, layer.num_channels)

    def add(x: str) -> str:
        # ONNX computes E[x²] − E[x]², which loses digits in float32 where the mean is large.
        options = {"epsilon": layer.eps, "num_groups": layer.num_groups, "stash_type": _FLOAT64}
        return graph.node("GroupNormalization", x, *arrays, **options)

    return graph.with_channels_first(x, layer.channel_axis, add)


@_converts(LayerNorm)
def _layer_norm(graph: _Graph, layer: LayerNorm, x: _Value) -> str:
    shape = layer.normalized_shape
    return graph.node("LayerNormalization", x.name, *graph.affine(layer, shape), epsilon=layer.eps, axis=-len(shape))


@_converts(RMSNorm)
def _rms_norm(graph: _Graph, layer: RMSNorm, x: _Value) -> str:
    """Add its formula: the operator RMSNormalization is of opset 23."""
    axes = graph.constant(range(-len(layer.normalized_shape), 0), np.int64)
    eps = np.finfo(x.array.dtype).eps if layer.eps is None else layer.eps
    mean_square = graph.node("ReduceMean", graph.node("Mul", x.name, x.name), axes, keepdims=1)
    root = graph.node("Sqrt", graph.node("Add", mean_square, graph.constant(eps)))
    y = graph.node("Div", x.name, root)
    return y if layer.weight is None else graph.node("Mul", y, graph.constant(layer.weight.data))


def _window(layer: Conv2d | MaxPool2d | AvgPool2d) -> dict[str, Any]:
    return {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": [*layer.padding, *layer.padding]}
