"""BatchNormalization of ONNX Runtime, with input and output bound to memory to avoid copies and allocations."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from case import Candidate
from onnx import TensorProto, helper, numpy_helper
from shapes import EPS, Problem

OPSET = 15
IR_VERSION = 8


def inference(problem: Problem) -> Candidate:
    """Return batch normalization in evaluation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(problem), options, providers=["CPUExecutionProvider"])
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(problem.shape, np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(problem.x))
    binding.bind_ortvalue_output("y", y)
    return Candidate(lambda: session.run_with_iobinding(binding), lambda _: (y.numpy(),))


def _model(problem: Problem) -> bytes:
    """Return a model that consists of this node, with constant parameters."""
    mean, var = problem.statistics
    parameters = {"weight": problem.weight, "bias": problem.bias, "mean": mean, "var": var}
    node = helper.make_node("BatchNormalization", ["x", *parameters], ["y"], epsilon=EPS)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, problem.shape) for name in "xy")
    constants = [numpy_helper.from_array(array, name) for name, array in parameters.items()]
    graph = helper.make_graph([node], "batch_norm", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model.SerializeToString()
