"""Errors of unknown attributes: names of Keras, PyTorch and mpi4py, what to use in syncbn, and misspelt names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

_ON_THE_CPU = "leave it out, all arrays are in the memory of the CPU"
_BEFORE_SOFTMAX = "nn.softmax_cross_entropy takes the values before the softmax"

ATTRIBUTES = {
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
    **dict.fromkeys(
        ("register_forward_pre_hook", "register_backward_hook", "register_full_backward_hook"),
        "use register_forward_hook, whose hook may replace the backward too",
    ),
    "add": "use append(layer)",
    **dict.fromkeys(("add_module", "register_module", "register_parameter"), "assign it to an attribute"),
    **dict.fromkeys(("layers", "get_layer"), "use children(), or modules(), or model[i]"),
    "count_params": "call nn.summary(model, x.shape[1:])",
    "half": "call model.to(numpy.float16)",
    "float": "call model.to(numpy.float32)",
    "double": "call model.to(numpy.float64)",
    "cuda": _ON_THE_CPU,
    "cpu": _ON_THE_CPU,
    "weights": "use state_dict(), or parameters()",
    "trainable_variables": "use parameters()",
    **dict.fromkeys(
        ("trainable", "requires_grad", "requires_grad_"),
        "for a layer that is to stay as it is, leave its parameters out of the optimizer, and call its eval()",
    ),
    "gamma": "it is weight",
    "beta": "it is bias",
    "epsilon": "it is eps",
    "moving_mean": "it is running_mean",
    "moving_variance": "it is running_var",
}
"""Replacements of attributes of models and layers, by name."""

NAMES = {
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchNormalization"), "use syncbn.BatchNorm"),
    **dict.fromkeys(("SyncBatchNorm1d", "SyncBatchNorm2d", "SyncBatchNorm3d"), "use syncbn.SyncBatchNorm"),
    **dict.fromkeys(
        ("convert_sync_batchnorm", "convert_syncbn_model"),
        "use syncbn.torch.convert_sync_batchnorm, or build the model with syncbn.SyncBatchNorm",
    ),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), "use syncbn.InstanceNorm"),
    "LayerNormalization": "use syncbn.LayerNorm",
    "GroupNormalization": "use syncbn.GroupNorm",
    "Linear": "use nn.Dense",
    "Conv2D": "use nn.Conv2d",
    **dict.fromkeys(("MaxPooling2D", "MaxPool2D"), "use nn.MaxPool2d"),
    **dict.fromkeys(("AveragePooling2D", "AvgPool2D"), "use nn.AvgPool2d"),
    **dict.fromkeys(("AdaptiveAvgPool2d", "GlobalAveragePooling2D"), "use nn.GlobalAvgPool2d"),
    "relu": "use nn.ReLU()",
    **dict.fromkeys(("Softmax", "softmax", "LogSoftmax", "log_softmax"), _BEFORE_SOFTMAX),
    **dict.fromkeys(
        ("CrossEntropyLoss", "cross_entropy", "NLLLoss", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
        "use nn.softmax_cross_entropy",
    ),
    **dict.fromkeys(("MSELoss", "mse_loss", "MeanSquaredError"), "use nn.mean_squared_error"),
    "optim": "optimizers are nn.SGD and nn.Adam",
    "AdamW": "nn.Adam adds weight_decay to the gradient, as torch.optim.Adam does",
    "CosineAnnealingLR": "use nn.CosineSchedule",
    "StepLR": "use nn.StepSchedule",
    **dict.fromkeys(("DataLoader", "DistributedSampler"), "use train.DataOrder and train.shard"),
    **dict.fromkeys(
        ("DistributedDataParallel", "DataParallel", "parallel"),
        "use train.Trainer, or train.sum_gradients in a loop of your own",
    ),
    **dict.fromkeys(("DistributedOptimizer", "average_gradients"), "use train.sum_gradients before each step"),
    **dict.fromkeys(
        ("init_process_group", "COMM_WORLD", "distributed"), "construct syncbn.MPIComm(), of the ranks of mpiexec"
    ),
    "get_rank": "use the rank of syncbn.MPIComm()",
    "get_world_size": "use the size of syncbn.MPIComm()",
    "all_reduce": "call allreduce(array) of syncbn.MPIComm(), in place",
    **dict.fromkeys(("clip_grad_norm_", "clip_grad_value_"), "scale each parameter.grad, after train.sum_gradients"),
    **dict.fromkeys(("kaiming_normal", "kaiming_normal_"), "use nn.he_normal"),
    **dict.fromkeys(("kaiming_uniform", "kaiming_uniform_"), "use nn.he_uniform"),
    **dict.fromkeys(("xavier_normal", "xavier_normal_"), "use nn.glorot_normal"),
    **dict.fromkeys(("xavier_uniform", "xavier_uniform_"), "use nn.glorot_uniform"),
    "Identity": "use nn.Sequential(), without layers",
    "ModuleDict": "assign a dict of layers to an attribute",
    **dict.fromkeys(
        ("ExponentialLR", "LambdaLR", "ReduceLROnPlateau"), "any function of the step may be the schedule of a trainer"
    ),
    **dict.fromkeys(("TensorDataset", "random_split", "Subset"), "use arrays, and slices of them"),
    **dict.fromkeys(("MNIST", "FashionMNIST", "CIFAR10", "load_data"), "call data.load(), or data.load(directory)"),
    **dict.fromkeys(("manual_seed", "set_random_seed"), "pass rng=seed to layers, and seed= to a Trainer or DataOrder"),
    "no_grad": "forwards keep nothing but their backward, so leave it out",
    **dict.fromkeys(("Tensor", "tensor"), "use numpy.array"),
    **{bridge: f"import syncbn.{bridge} first" for bridge in ("torch", "keras", "jax", "onnx")},
}
"""Replacements of classes, functions and modules, by name."""

OF_TORCH = {
    **dict.fromkeys(
        ("DistributedDataParallel", "parallel"),
        "use torch.nn.parallel.DistributedDataParallel, or syncbn.torch.average_gradients after each backward",
    ),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), "use syncbn.torch.BatchNorm"),
    "init_process_group": "use torch.distributed.init_process_group, or MPI",
}
"""Replacements of names in ``syncbn.torch``, whose models are PyTorch's."""

COMMUNICATION = {
    **dict.fromkeys(("Get_rank", "get_rank"), "it is rank"),
    **dict.fromkeys(("Get_size", "get_size", "get_world_size"), "it is size"),
    "Barrier": "call barrier()",
    "bcast": "call allgather(value)[0]",
    "Bcast": "call broadcast(array)",
    "gather": "call allgather(value)",
    **dict.fromkeys(("Allreduce", "all_reduce"), "call allreduce(array), in place"),
    "all_gather": "call allgather(value)",
    **dict.fromkeys(("reduce", "Reduce"), "call allreduce(array), in place"),
    **dict.fromkeys(
        ("send", "recv", "isend", "irecv", "Send", "Recv", "Isend", "Irecv", "scatter", "Scatter", "alltoall"),
        "use MPI.COMM_WORLD of mpi4py, which has messages between two ranks",
    ),
    **dict.fromkeys(("Dup", "Clone"), "construct another MPIComm"),
    "Abort": "raise an error, which ends all ranks",
    "Split": "call split(group_size)",
    "Free": "call free()",
}
"""Replacements of methods of communicators, by name."""

OPTIMIZATION = {
    "param_groups": "set optimizer.lr, which is that of all parameters",
    "minimize": "call the backward of the model, then step()",
    "apply_gradients": "call step()",
    "state": "call state_dict()",
    **dict.fromkeys(("beta_1", "beta1", "beta_2", "beta2"), "they are betas"),
    "epsilon": "it is eps",
    "decay": "it is weight_decay",
}
"""Replacements of attributes of optimizers, by name."""

RECORDS = {
    **dict.fromkeys(("loss", "accuracy", "acc"), "it is train_loss or train_accuracy"),
    "val_loss": "it is test_loss",
    **dict.fromkeys(("val_accuracy", "val_acc"), "it is test_accuracy"),
}
"""Replacements of attributes of the records of epochs, by name."""


def unknown(owner: str, name: str, advice: Mapping[str, str]) -> str:
    """Return the text of the AttributeError for a name that ``owner`` does not have."""
    return f"{owner} has no attribute {name!r}" + (f": {advice[name]}" if name in advice else "")


def check_assignment(owner: Any, name: str, value: object, advice: Mapping[str, str]) -> None:
    """Raise AttributeError for a new attribute of an object of syncbn that is a misspelt name, or one in ``advice``.

    Such an assignment would have no effect. Objects of classes outside of syncbn may have any attributes.
    """
    kind: Any = type(owner)
    if name in vars(owner) or hasattr(kind, name) or name.startswith("_") or not kind.__module__.startswith("syncbn."):
        return  # the usual cases
    text = unknown(f"{kind.__name__!r} object", name, advice) if name in advice and not callable(value) else ""
    if not text and name not in _names(kind):
        from difflib import get_close_matches

        existing = [each for each in _names(kind) if hasattr(owner, each)]
        near = [each for each in existing if each.lower() == name.lower()]
        near = near or get_close_matches(name, existing, n=1, cutoff=0.8)
        text = unknown(f"{kind.__name__!r} object", name, {name: f"is it {near[0]}?"}) if near else ""
    if text:
        raise AttributeError(text, name=name, obj=owner)


@functools.cache
def _names(kind: Any) -> frozenset[str]:
    """Return the public names of a class that may be attributes with a value: properties, annotations and arguments."""
    names = {name for name, _ in inspect.getmembers(kind, inspect.isdatadescriptor)}
    names.update(*(inspect.get_annotations(each) for each in kind.__mro__), inspect.signature(kind.__init__).parameters)
    return frozenset(name for name in names if not name.startswith("_"))
