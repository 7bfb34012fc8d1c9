"""Batch normalization in evaluation, with running statistics."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import memory, onnxruntime, pytorch, syncbn
from case import Case
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield every shape in NCHW, the only memory order of ONNX."""
    for shape in (*CONVOLUTIONAL, *DENSE):
        problem = Problem.random(shape)
        candidates = {
            "syncbn": syncbn.inference(problem),
            "torch": pytorch.inference(problem),
            "onnxruntime": onnxruntime.inference(problem),
            "copy": memory.copy(problem),
        }
        yield Case("evaluation", label(shape), candidates, problem.x.nbytes)
