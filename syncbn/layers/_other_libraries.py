"""Names that models have in Keras and PyTorch, and what to call in syncbn, for the error of an unknown attribute."""

from __future__ import annotations

_ON_THE_CPU = "leave it out, all arrays are in the memory of the CPU"

ADVICE = {
    "summary": "call nn.summary(model, x.shape[1:])",
    "compile": "pass the optimizer to train.Trainer(model, optimizer), whose loss is nn.softmax_cross_entropy",
    "fit": "call train.Trainer(model, optimizer).fit(x, y, epochs)",
    "evaluate": "call train.evaluate(model, x, y)",
    "predict": "call train.predict(model, x)",
    "save": "call numpy.savez(path, **model.state_dict())",
    "load_weights": "call model.load_state_dict(numpy.load(path))",
    "get_weights": "call model.state_dict()",
    "set_weights": "call model.load_state_dict(state)",
    "backward": "a call returns it, y, backward = model(x)",
    "half": "call model.to(numpy.float16)",
    "float": "call model.to(numpy.float32)",
    "double": "call model.to(numpy.float64)",
    "cuda": _ON_THE_CPU,
    "cpu": _ON_THE_CPU,
}
"""Replacements in syncbn of methods that models of Keras and PyTorch have, by name."""
