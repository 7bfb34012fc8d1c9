"""Mistakes of users, and what their errors say."""

from __future__ import annotations

import copy
import io
import zipfile

import numpy as np

from syncbn import (
    BatchNorm,
    BatchRenorm,
    FilterResponseNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn import functional as F
from syncbn.data import load as load_data
from syncbn.data import prepare, read_idx
from syncbn.layers import LinearRamp, Module, Parameter
from syncbn.monitor import Monitor, read_records
from syncbn.nn import (
    SGD,
    Adam,
    AvgPool2d,
    Conv2d,
    CosineSchedule,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ModuleList,
    ReLU,
    ResidualBlock,
    Sequential,
    Sigmoid,
    StepSchedule,
    Tanh,
    he_normal,
    mean_squared_error,
    softmax_cross_entropy,
    summary,
)
from syncbn.train import (
    DataOrder,
    EpochRecord,
    FlatGradients,
    History,
    Trainer,
    evaluate,
    predict,
    shard,
    sum_gradients,
)

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)

Y = np.zeros(8, int)

SCHEDULE = CosineSchedule(0.1, total_steps=10)

NHWC = np.ones((2, 8, 8, 9), np.float32)


class WithUnusedLayer(Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = Dense(4, 3), Dense(4, 3)

    def forward(self, x):
        return self.used(x)


def train(model=None, x=X, y=Y, **options):
    model = model or Sequential(Dense(4, 3))
    Trainer(model, SGD(model.parameters(), 0.1), SerialComm(), **options).fit(x, y, 1)


def trainer(**options):
    model = Sequential(Dense(4, 3))
    return Trainer(model, SGD(model.parameters(), 0.1), SerialComm(), **options)


def train_with(**options):
    trainer().fit(X, Y, 1, **options)


def other_parameters():
    Trainer(Sequential(Dense(4, 3)), SGD(Dense(4, 3).parameters(), 0.1), SerialComm())


def step_between():
    layer = BatchNorm(4)
    y, backward = layer(X)
    backward(y)
    SGD(layer.parameters(), 0.1).step()
    backward(y)


def step_of_other_shape():
    layer = Dense(4, 3)
    y, backward = layer(X)
    backward(y)
    layer.bias.data = np.zeros(5, np.float32)
    SGD(layer.parameters(), 0.1).step()


def closed_file():
    file = io.BytesIO()
    np.savez(file, **Dense(4, 3).state_dict())
    file.seek(0)
    with np.load(file) as state:
        pass
    Dense(4, 3).load_state_dict(state)


def from_file(write, **options):
    file = io.BytesIO()
    write(file)
    file.seek(0)
    Dense(4, 3).load_state_dict(np.load(file, **options))


def write_as_torch_save(file):
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "byteorder", "data/0", "version"):
            archive.writestr(f"model/{name}", b"")


class WithoutGradient(Module):
    def __init__(self, result=lambda _: None):
        super().__init__()
        self.result = result

    def forward(self, x):
        return x, self.result


def backward_of(*layers):
    y, backward = Sequential(*layers)(X)
    return backward(y)


def hooked(hook):
    layer = Dense(4, 3)
    layer.register_forward_hook(hook)
    layer(X)


def load(**state):
    layer = BatchNorm(4)
    layer.load_state_dict({**layer.state_dict(), **state})


def keras_model():
    """Return an object whose classes are those of a model of Keras with its backend for PyTorch."""
    layer = type("Module", (), {"__module__": "torch.nn"})
    return type("Sequential", (layer,), {"__module__": "keras.models"})()


def tensor():
    return type("Tensor", (), {"__module__": "torch"})()


def checkpoint():
    return {"meta": X, "buffers": X, "model.weight": X, "optimizer.lr": np.array(0.1)}


class Bfloat16:
    """Tensor that NumPy cannot read."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


MISTAKES = {  # the mistake, what its error says, and the entry
    "masked array": (lambda: F.batch_norm(np.ma.array(X)), r"mask=", "masked-arrays"),
    "tensor": (lambda: BatchNorm(4)(tensor()), r"\.detach\(\)\.numpy\(\)", "arrays-of-other-libraries"),
    "tensor in a message": (lambda: SerialComm().allreduce(tensor()), r"numpy\(\)", "arrays-of-other-libraries"),
    "tensor of evaluate": (lambda: evaluate(Dense(4, 3), tensor(), Y), r"numpy\(\)", "arrays-of-other-libraries"),
    "tensors of labels": (lambda: train(y=tensor()), r"numpy\(\)", "arrays-of-other-libraries"),
    "list": (lambda: BatchNorm(4)(X.tolist()), r"numpy\.asarray\(\)", "arrays-of-other-libraries"),
    "parameter of a list": (lambda: Parameter([1.0]), r"numpy\.asarray\(\)", "arrays-of-other-libraries"),
    "result of a layer": (
        lambda: BatchNorm(4)(BatchNorm(4)(X)),
        r"y, backward = layer\(x\)",
        "layers-return-two-values",
    ),
    "result of a network": (lambda: Dense(4, 3)(Dense(4, 4)(X)), r"y, backward = ", "layers-return-two-values"),
    "integers": (lambda: BatchNorm(4)(np.ones((8, 4), int)), r"astype\(numpy\.float32\)", "dtypes"),
    "bytes of images": (lambda: Conv2d(1, 1, 3)(np.ones((2, 1, 8, 8), np.uint8)), r"astype\(", "dtypes"),
    "channels of a layer": (lambda: BatchNorm(9)(NHWC), r"channel_axis=-1", "channels-last"),
    "channels of groups": (lambda: GroupNorm(3, 9)(NHWC), r"channel_axis=-1", "channels-last"),
    "channels of group_norm": (lambda: F.group_norm(NHWC, 9), r"channel_axis=-1", "channels-last"),
    "channels of group_norm with a mask": (
        lambda: F.group_norm(NHWC, 9, mask=NHWC > 0),
        r"channel_axis=-1",
        "channels-last",
    ),
    "channels of instances": (lambda: InstanceNorm(9, affine=True)(NHWC), r"channel_axis=-1", "channels-last"),
    "channels of a convolution": (lambda: Conv2d(9, 1, 3)(NHWC), r"numpy\.moveaxis\(x, -1, 1\)", "channels-last"),
    "weight for the last axis": (lambda: F.batch_norm(NHWC, np.ones(9)), r"shape \(8,\)", "shapes-of-parameters"),
    "batch of one sample": (lambda: BatchNorm(4)(X[:1]), r"drop_last=True", "one-value-per-channel"),
    "one sample of an evaluation": (
        lambda: BatchNorm(4, track_running_stats=False).eval()(X[:1]),
        r"if you evaluate, use running statistics: model\.eval\(\), and track_running_stats=True of the layer",
        "one-value-per-channel",
    ),
    "last batch of an order": (lambda: BatchNorm(4)(X[:1]), "a Trainer or DataOrder", "one-value-per-channel"),
    "parameter of integers": (
        lambda: Parameter(np.arange(3)),
        r"data must have a floating dtype, got int64: .*astype\(numpy\.float32\)",
        "dtypes",
    ),
    "list as a gradient": (
        lambda: Parameter(X).add_grad(X.tolist()),
        r"parameter's shape \(8, 4\), got list: .*numpy\.asarray\(\)",
        "arrays-of-other-libraries",
    ),
    "values of another shape": (
        step_of_other_shape,
        r"parameter 1 of the optimizer has the shape \(5,\), but its gradient \(3,\): .*data\[\.\.\.\] = values",
        "values-of-parameters",
    ),
    "name of an initializer": (
        lambda: Dense(4, 3, init="he_normal"),
        r"init must be a function of \(shape, rng, dtype\) .* nn\.he_normal itself, got 'he_normal'",
        "initial-weights",
    ),
    "initial values": (
        lambda: Conv2d(4, 3, 1, init=X),
        r"init must be a function of .*, got ndarray of shape \(8, 4\)",
        "initial-weights",
    ),
    "initial value of a block": (lambda: ResidualBlock(1, 1, init=0), "init must be .*, got 0", "initial-weights"),
    "result of an initializer": (
        lambda: Dense(4, 3, init=he_normal()),
        r"he_normal: missing a required argument: 'shape'\. init must be a function of .* a layer calls it",
        "initial-weights",
    ),
    "initializer without rng": (
        lambda: Dense(4, 3, init=lambda shape: np.ones(shape)),
        r"init must be a function of .*, but function <lambda> raised: .*1 positional argument",
        "initial-weights",
    ),
    "initializer of another shape": (
        lambda: Dense(4, 3, init=lambda *_: X),
        r"here of shape \(3, 4\), but it returned ndarray of shape \(8, 4\)",
        "initial-weights",
    ),
    "reduction of a loss": (
        lambda: softmax_cross_entropy(X, Y, "mean"),
        "normalizer must be a number, got 'mean': .* samples of all ranks",
        "losses-of-ranks",
    ),
    "reduction of an error": (
        lambda: mean_squared_error(X, X, len),
        "normalizer must be a number, got builtin_function_or_method len: for the mean",
        "losses-of-ranks",
    ),
    "result of a layer as logits": (
        lambda: softmax_cross_entropy(Dense(4, 3)(X), Y, 8),
        r"softmax_cross_entropy expects a NumPy array, got tuple: .* y, backward = layer\(x\)",
        "layers-return-two-values",
    ),
    "result of a layer as targets": (
        lambda: mean_squared_error(X, Dense(4, 4)(X)),
        r"targets must be an array, got \(ndarray .*y, backward = layer\(x\)",
        "layers-return-two-values",
    ),
    "virtual batches of one value": (
        lambda: GhostBatchNorm(4, 1)(X),
        r"virtual_batch_size=1 divides 8 samples, .* into 8 virtual batches: pass a larger virtual_batch_size",
        "one-value-per-channel",
    ),
    "last virtual batch of one value": (
        lambda: F.ghost_batch_norm(X[:3], 2),
        r"virtual_batch_size=2 divides 3 samples, .* into 2 virtual batches: pass a larger virtual_batch_size",
        "one-value-per-channel",
    ),
    "virtual batch of one sample": (
        lambda: GhostBatchNorm(4, 1)(X[:1]),
        "drop a last batch of one sample",
        "one-value-per-channel",
    ),
    "state as one object of a file": (
        lambda: from_file(lambda file: np.savez(file, model=Dense(4, 3).state_dict())),
        r"'model' of the file is an object, .*numpy\.savez\(path, \*\*state\)",
        "states-that-do-not-fit",
    ),
    "state as one object without a name": (
        lambda: from_file(lambda file: np.savez(file, Dense(4, 3).state_dict()), allow_pickle=True),
        r"'arr_0' of the file is an object, .*numpy\.savez\(path, \*\*state\)",
        "states-that-do-not-fit",
    ),
    "file of torch.save": (
        lambda: from_file(write_as_torch_save),
        r"one of torch\.save: read it by torch\.load\(path\)",
        "states-that-do-not-fit",
    ),
    "closed file": (closed_file, r"file of the state_dict is closed: .* with block", "states-that-do-not-fit"),
    "state in an array": (
        lambda: Dense(4, 3).load_state_dict(np.array({"weight": X}, object)),
        r"got ndarray of shape \(\): numpy\.save .*\.item\(\) returns; numpy\.savez",
        "states-that-do-not-fit",
    ),
    "steps of no checkpoint": (
        lambda: train_with(checkpoint_steps=5),
        "checkpoint_steps=5 without checkpoint would write nothing: .*checkpoint='run.npz'",
        "checkpoints",
    ),
    "one sample of evaluate": (
        lambda: evaluate(Dense(4, 3), X[0], Y[0], SerialComm()),
        r"got ndarray and int64: one sample has arrays too, x\[i : i \+ 1\]",
        "labels",
    ),
    "backward without dx": (
        lambda: backward_of(Dense(4, 3), Sequential(WithoutGradient(), ReLU())),
        r"^layer 1 \(Sequential\): layer 0 \(WithoutGradient\): its backward returned None, expected dx",
        "layers-return-two-values",
    ),
    "dy of a tuple": (
        lambda: Dense(4, 3)(X)[1]((X, None)),
        r"backward of Dense expects dy, .* got \(ndarray of shape \(8, 4\), None\)",
        "layers-return-two-values",
    ),
    "dy of None": (
        lambda: Dense(4, 3)(X)[1](None),
        r"backward of Dense expects dy, an array of y's shape \(8, 3\), got None",
        "layers-return-two-values",
    ),
    "instance of one value": (lambda: F.instance_norm(X), r"layer or group", "one-value-per-channel"),
    "mask without elements": (lambda: F.batch_norm(X, mask=Y > 0), r"True selects", "masks-without-elements"),
    "mask of integers": (lambda: F.batch_norm(X, mask=Y), r"astype\(bool\)", "masks"),
    "out that overlaps x": (lambda: F.batch_norm(X, out=X), r"separate memory", "output-arrays"),
    "step before the backward": (step_between, r"call backward first", "arrays-that-must-not-change"),
    "copy of a communicator": (lambda: copy.deepcopy(FakeComm()), r"state_dict\(\)", "copies"),
    "missing key": (lambda: load(running_mea=X[0]), r"unexpected 'running_mea'", "states-that-do-not-fit"),
    "state of DistributedDataParallel": (
        lambda: Dense(4, 3).load_state_dict(
            {f"module.{key}": value for key, value in Dense(4, 3).state_dict().items()}
        ),
        r"Remove the prefix 'module\.', that of DistributedDataParallel",
        "states-that-do-not-fit",
    ),
    "tensor of bfloat16": (lambda: load(weight=Bfloat16()), r"'weight' .*\.float\(\)", "states-that-do-not-fit"),
    "Keras's scale=False": (lambda: BatchNorm(4).load_keras_weights([X[0]] * 3), r"weight=False", "weights-of-keras"),
    "optimizer of a model": (lambda: SGD(Dense(4, 3), 0.1), r"model\.parameters\(\)", "optimizers"),
    "optimizer of one parameter": (lambda: SGD(Dense(4, 3).weight, 0.1), r"list of Parameters", "optimizers"),
    "optimizer of a PyTorch model": (
        lambda: SGD([tensor()], 0.1),
        "syncbn Parameters, got Tensor of PyTorch at 0",
        "optimizers",
    ),
    "optimizer of names": (lambda: SGD(Dense(4, 3).named_parameters(), 0.1), r"model\.parameters\(\)", "optimizers"),
    "optimizer of another model": (other_parameters, r"model\.parameters\(\) of this model", "optimizers"),
    "optimizer of a trainer": (
        lambda: Trainer(Dense(4, 3), "sgd", SerialComm()),
        r"optimizer must be .*nn\.SGD\(model\.parameters\(\), lr=0\.1\), got 'sgd'",
        "optimizers",
    ),
    "schedule of an optimizer": (
        lambda: SGD(Dense(4, 3).parameters(), SCHEDULE),
        r"lr must be a number, got CosineSchedule: .*set optimizer\.lr = schedule\(step\)",
        "learning-rates",
    ),
    "schedule as a learning rate": (
        lambda: setattr(SGD(Dense(4, 3).parameters(), 0.1), "lr", SCHEDULE),
        r"lr must be a number, got CosineSchedule: .*set optimizer\.lr = schedule\(step\)",
        "learning-rates",
    ),
    "schedule of PyTorch": (
        lambda: CosineSchedule(SGD(Dense(4, 3).parameters(), 0.1), total_steps=10),
        r"lr must be a number, got SGD: .*set optimizer\.lr = schedule\(step\)",
        "learning-rates",
    ),
    "items of a parameter": (
        lambda: Dense(4, 3).weight.__setitem__(slice(None), 3),
        r"weight\.data\[\.\.\.\]",
        "values-of-parameters",
    ),
    "product of a parameter": (lambda: Dense(4, 3).weight * 2, r"2 \* layer\.weight\.data", "values-of-parameters"),
    "product with a parameter": (lambda: 2 * Dense(4, 3).weight, r"2 \* layer\.weight\.data", "values-of-parameters"),
    "checkpoint of a trainer as a state": (
        lambda: Dense(4, 3).load_state_dict(checkpoint(), strict=False),
        r"call Trainer\.resume\(path\), or load its arrays 'model\.NAME'",
        "checkpoints",
    ),
    "checkpoint of a trainer as a state of an optimizer": (
        lambda: SGD(Dense(4, 3).parameters(), 0.1).load_state_dict(checkpoint()),
        r"those of the optimizer are 'optimizer\.NAME'",
        "checkpoints",
    ),
    "unused layer": (
        lambda: train(WithUnusedLayer()),
        r"'unused\.weight' has no gradient",
        "gradients-that-are-missing",
    ),
    "one-hot labels of a loss": (lambda: softmax_cross_entropy(X, np.eye(8)[:, :4]), r"argmax\(axis=1\)", "labels"),
    "one-hot labels of fit": (lambda: train(y=np.eye(8)[:, :3]), r"argmax\(axis=1\)", "labels"),
    "column of labels of a loss": (lambda: softmax_cross_entropy(X, Y[:, None]), r"by labels\[:, 0\]", "labels"),
    "column of labels of fit": (lambda: train(y=Y[:, None]), r"by y\[:, 0\]", "labels"),
    "column of labels of evaluate": (
        lambda: evaluate(Sequential(Dense(4, 3)), X, Y[:, None], SerialComm()),
        r"by y\[:, 0\]",
        "labels",
    ),
    "column of floats of fit": (lambda: train(y=X[:, :1]), r"by y\[:, 0\]", "labels"),
    "labels of floats": (lambda: softmax_cross_entropy(X, np.zeros(8)), r"astype\(int\)", "labels"),
    "labels from 1": (lambda: train(y=Y + 3), r"label 3 .* 0 to 2, the classes of 3 logits", "labels"),
    "message of float16": (lambda: SerialComm().allreduce(X.astype("f2")), r"convert", "messages"),
    "message of a slice": (lambda: SerialComm().allreduce(X[:, ::2]), r"ascontiguousarray\(\)", "messages"),
    "data that do not exist": (lambda: load_data("no such data"), r"directory with the four idx files", "data-files"),
    "communicator of a string": (lambda: F.batch_norm(X, comm="world"), r"mpi4py", "communicators-that-cannot-be-used"),
}


class FakeComm(SerialComm):
    """Communicator that is not copied, as those of MPI."""

    __deepcopy__ = SerialComm.__mro__[1].__deepcopy__


class Rank:
    def Get_rank(self):  # noqa: N802 (the name of mpi4py)
        return 0


def trained():
    model = Dense(4, 3)
    y, backward = model(X)
    backward(y)
    return model


WITHOUT_ENTRY = [  # the mistake, and what its error says; no entry of the documentation is needed
    (lambda: Sequential([ReLU()]), r"got list: pass the layers themselves, Sequential\(\*layers\)"),
    (lambda: Sequential(ReLU), r"got class ReLU: call the class, ReLU\(\.\.\.\)"),
    (lambda: BatchNorm(4, momentum="0.1"), r"momentum must be in \[0, 1\] or None, got '0\.1'"),
    (lambda: SGD(Dense(4, 3).parameters(), "fast"), "lr must be a number, got 'fast'$"),
    (lambda: CosineSchedule("0.1", total_steps=10), "lr must be a number, got '0.1'$"),
    (lambda: SGD(Dense(4, 3).parameters(), True), "lr must be a number, got True"),
    (lambda: BatchNorm(4, 1e-5, True), r"momentum must be in \[0, 1\] or None, got True"),
    (
        lambda: backward_of(BatchNorm(4), WithoutGradient(lambda dy: dy[:2])),
        r"\(BatchNorm\): dy must have y's shape .* \(dy is what the backward of layer 1 \(WithoutGradient\) returned\)",
    ),
    (
        lambda: backward_of(ReLU(), WithoutGradient(lambda dy: (dy, None))),
        r"\(ReLU\): .* got \(ndarray of shape \(8, 4\), None\): .* of layer 1 \(WithoutGradient\) returned\)",
    ),
    (
        lambda: backward_of(ReLU(), WithoutGradient(lambda dy: dy.astype(int))),
        r"\(ReLU\): backward of ReLU expects dy of floats, got int64 .* layer 1 \(WithoutGradient\) returned\)",
    ),
    (
        lambda: hooked(lambda _module, _arguments: None),
        r"forward hook \(function <lambda>\) of Dense, called with \(mod",
    ),
    (lambda: hooked(lambda *found: found[2][0]), r"hook .* of Dense, .*None or \(y, backward\), got ndarray of shape"),
    (lambda: hooked(None), r"hook must be a function of \(module, arguments, result\), got None"),
    (lambda: Dense(4, 3).register_forward_pre_hook(print), "use register_forward_hook"),
    (lambda: setattr(BatchNorm(4), "momentun", 0.9), "'BatchNorm' object has no attribute 'momentun': is it momentum"),
    (lambda: setattr(BatchNorm(4), "runing_var", X[0]), "no attribute 'runing_var': is it running_var?"),
    (lambda: setattr(BatchNorm(4), "gamma", X[0]), "no attribute 'gamma': it is weight"),
    (lambda: setattr(Sequential(), "trainig", False), "no attribute 'trainig': is it training?"),
    (lambda: setattr(BatchNorm(4), "training", "no"), "training must be True or False, got 'no'"),
    (lambda: setattr(SGD(Dense(4, 3).parameters(), 0.1), "learning_rte", 1.0), "'learning_rte': is it learning_rate?"),
    (lambda: setattr(SGD(Dense(4, 3).parameters(), 0.1), "epsilon", 1.0), "no attribute 'epsilon': it is eps"),
    (lambda: setattr(SerialComm(), "time_out", 5), "no attribute 'time_out': is it timeout?"),
    (lambda: setattr(trainer(), "shedule", None), "no attribute 'shedule': is it schedule?"),
    (lambda: SCHEDULE.step(), r"no attribute 'step': set optimizer\.lr = schedule\(step\)"),
    (
        lambda: setattr(SGD(Dense(4, 3).parameters(), 0.1), "weight_decay", "x"),
        "weight_decay must be a number, got 'x'",
    ),
    (lambda: setattr(SGD(Dense(4, 3).parameters(), 0.1), "momentum", 5), r"momentum must be in \[0, 1\), got 5"),
    (lambda: setattr(Dropout(), "p", 5), r"p must be in \[0, 1\], got 5"),
    (
        lambda: setattr(BatchNorm(4), "running_mean", [0.0] * 4),
        r"is a buffer, an array of shape \(4,\), and .* list: set",
    ),
    (lambda: setattr(BatchNorm(4), "num_batches_tracked", 0), r"buffer, an array of shape \(\), and cannot become 0"),
    (
        lambda: SyncBatchNorm.convert_sync_batchnorm(Dense(4, 3)),
        r"class 'SyncBatchNorm' has no attribute 'convert.*: use syncbn\.torch\.convert_sync_batchnorm, or",
    ),
    (lambda: ReLU(inplace=True), r"ReLU\.__init__\(\) got an unexpected keyword argument 'inplace'"),
    (lambda: Sigmoid(3), r"Sigmoid\.__init__\(\) takes 1 positional argument"),
    (lambda: Tanh(3), r"Tanh\.__init__\(\) takes 1 positional argument"),
    (lambda: Flatten(start_dim=1), r"Flatten\.__init__\(\) got an unexpected keyword argument 'start_dim'"),
    (lambda: GlobalAvgPool2d(1), r"GlobalAvgPool2d\.__init__\(\) takes 1 positional argument"),
    (lambda: MaxPool2d(), r"MaxPool2d\.__init__\(\) missing 1 required positional argument: 'kernel_size'"),
    (lambda: AvgPool2d(), r"AvgPool2d\.__init__\(\) missing 1 required positional argument: 'kernel_size'"),
    (lambda: F.group_norm(NHWC, 5), "num_groups must divide the 8 channels of x, got 5$"),
    (lambda: F.group_norm(NHWC, 5, mask=NHWC > 0), "num_groups must divide the 8 channels of x, got 5$"),
    (lambda: SGD(Dense(4, 3).parameters(), keras_model()), "lr must be a number, got Sequential of Keras$"),
    (lambda: FrozenBatchNorm.convert_frozen_batchnorm([BatchNorm(4)]), "module must be a Module, .* got list"),
    (lambda: EpochRecord(1, 1, 1.0, None, None, 1.0, 0, 0.1).accuracy, "it is train_loss or train_accuracy"),
    (lambda: trainer(schedule=CosineSchedule), r"such as CosineSchedule\(0\.1, .*, got class CosineSchedule"),
    (lambda: trainer().fit(prepare(load_data()), None, 1), "got Inputs and NoneType: pass its x_train and y_train"),
    (lambda: Dense(4, 3).apply(None), "function must be a function of a module, got None"),
    (lambda: Module().register_buffer("mean", [0.0]), r"a buffer must be a NumPy array or None, got list: .*asarray"),
    (lambda: ModuleList(ReLU()), "ModuleList expects a list of layers, got ReLU"),
    (
        lambda: Dense(9, 3)(NHWC),
        r"Dense expects x of shape \(N, 9\), got .*: put nn\.Flatten\(\) or nn\.Global",
    ),
    (
        lambda: Conv2d(1, 1, 3)(NHWC[0]),
        r"expects x of shape \(N, 1, H, W\), got .* get its axis by x\[:, None\]",
    ),
    (lambda: Dense(4, 3)(X)[1](0.5), r"expects dy of y's shape \(8, 3\), got \(\): the second result of a loss is dy"),
    (lambda: softmax_cross_entropy(Y, X), "softmax_cross_entropy expects logits and then labels, got labels first"),
    (lambda: FlatGradients(Dense(4, 3)), r"FlatGradients expects Parameters, as list\(.*\), got Dense"),
    (lambda: F.batch_norm(X, relu="no"), "relu must be True or False, got 'no'"),
    (lambda: BatchNorm(4).eval()(X, relu=X), r"relu must be True or False, got ndarray of shape \(8, 4\)"),
    (lambda: F.batch_norm(X)[2](X, total="no"), "total must be True or False, got 'no'"),
    (lambda: F.ghost_batch_norm(X, 4)[2](X, total=X), r"total must be True or False, got ndarray of shape \(8, 4\)"),
    (lambda: FilterResponseNorm(4, tlu="no"), "tlu must be True or False, got 'no'"),
    (lambda: SGD(Dense(4, 3).parameters(), 0.1, 0.9, 0.001), r"nesterov must be True or False, got 0\.001"),
    (lambda: DataOrder(8, 4, 0, drop_last=2), "drop_last must be True or False, got 2"),
    (lambda: trainer(drop_last="no"), "drop_last must be True or False, got 'no'"),
    (lambda: trainer().resume("run.npz", missing_ok="no"), "missing_ok must be True or False, got 'no'"),
    (lambda: train_with(progress="bar"), "progress must be True or False, got 'bar'"),
    (lambda: ResidualBlock(1, 1, norm=BatchNorm, zero_init_residual="no"), "zero_init_residual must be True or False"),
    (lambda: Dense(4, 3).load_state_dict({}, "no"), "strict must be True or False, got 'no'"),
    (lambda: Parameter(X, decay=0.1), r"decay must be True or False, got 0\.1"),
    (lambda: Module().register_buffer("mean", X, "no"), "persistent must be True or False, got 'no'"),
    (lambda: prepare(load_data(), pool="2"), "pool must divide the images' 28 x 28 pixels, got '2'"),
    (lambda: BatchNorm(4, channel_axis="last"), "channel_axis must be an integer, got 'last'"),
    (lambda: GroupNorm(2, 4, channel_axis=None), "channel_axis must be an integer, got None"),
    (lambda: FrozenBatchNorm(4, channel_axis=1.0), r"channel_axis must be an integer, got 1\.0"),
    (lambda: FilterResponseNorm(4, channel_axis="last"), "channel_axis must be an integer, got 'last'"),
    (lambda: BatchRenorm(4, r_max=0.5), r"r_max must be at least 1, got 0\.5"),
    (lambda: BatchRenorm(4, d_max=X), r"d_max must be a number, got ndarray of shape \(8, 4\)"),
    (lambda: LinearRamp(1.0, "3", 0, 10), "last must be a number, got '3'"),
    (lambda: LinearRamp(1.0, 3.0, 0, 1e4), r"stop must be an integer, got 10000\.0"),
    (lambda: LinearRamp(1.0, 3.0, 10, 5), "a LinearRamp needs start <= stop, got start=10, stop=5"),
    (lambda: LayerNorm(None), r"normalized_shape must be an integer or a sequence .*x\.shape\[1:\], got None"),
    (lambda: RMSNorm(X), r"normalized_shape must be .* got ndarray of shape \(8, 4\)"),
    (lambda: LayerNorm(4, elementwise_affine=1), "elementwise_affine must be True or False, got 1"),
    (lambda: RMSNorm(4, elementwise_affine=1), "elementwise_affine must be True or False, got 1"),
    (lambda: WeightNorm(X), r"WeightNorm expects a layer with a weight, such as nn\.Dense, got ndarray of shape"),
    (lambda: WeightNorm(Dense(4, 3), 0), r"Dense has no parameter 0: its own are \['weight', 'bias'\]"),
    (
        lambda: ResidualBlock(1, 1, norm="batch"),
        "norm must be a class of normalizers, .* got 'batch'",
    ),
    (lambda: BatchNorm(4, dtype=None), "dtype must be .*, got None: leave it out for the default"),
    (lambda: trainer(wire_dtype="half"), "gradients are added in float32 or float64, got float16"),
    (lambda: FlatGradients([Parameter(X)], scalars=1.5), r"scalars must be an integer, got 1\.5"),
    (lambda: StepSchedule(0.1, 30), r"milestones must be the steps .*\(5, 10\), got none: .*ConstantSchedule"),
    (lambda: StepSchedule(0.1, milestones=(10, 5)), r"milestones must be positive and ascending, got \(10, 5\)"),
    (lambda: StepSchedule(0.1, milestones=5), r"milestones must be a tuple of integers, such as \(5, 10\), got 5"),
    (lambda: CosineSchedule(0.1), "total_steps"),
    (lambda: CosineSchedule(0.1, 0, 10), "positional"),
    (lambda: Dense(4, 3, rng="0"), "rng must be a numpy.random.Generator, a seed of at least 0, or None, got '0'"),
    (lambda: Conv2d(1, 1, 3, rng=-1), "rng must be .* got -1"),
    (lambda: Dense(4, 3, rng=True), "rng must be .* got True"),
    (lambda: Dropout(rng=RuntimeError()), "rng must be .* got RuntimeError"),
    (lambda: Dense(4, 3).to("cuda"), r"dtype must be .* got 'cuda' \(there are no devices"),
    (lambda: train_with(on_step=3), "on_step must be a function or None, got 3"),
    (lambda: train_with(on_epoch="x"), "on_epoch must be a function or None, got 'x'"),
    (lambda: train_with(checkpoint=True), "checkpoint must be a path, .*got bool"),
    (lambda: trainer().save(None), "path must be a path, .*got NoneType"),
    (lambda: trainer().resume(None), "path must be a path, .*got NoneType"),
    (lambda: trainer().resume(b"run.npz"), "path must be a path, .*got bytes"),
    (lambda: load_data(None), "source must be a path, .*got NoneType"),
    (lambda: read_idx(3, ndim=1), "path must be a path, .*got int"),
    (lambda: read_records(None), "path must be a path, .*got NoneType"),
    (lambda: Monitor(Dense(4, 3), None, SerialComm()), "path must be a path, .*got NoneType"),
    (lambda: prepare(prepare(load_data())), "dataset must be a Dataset, .*got Inputs"),
    (lambda: History()["loss"], r"no item 'loss': .*\[record\.train_loss for record in history\]"),
    (lambda: list(DataOrder(8, 4, 0)), r"iterate over order\.batches\(epoch\)"),
    (lambda: DataOrder(8, 4, seed=None), "seed must be an integer, got None$"),
    (lambda: DataOrder(8, 4, seed=-1), "seed must be at least 0, got -1"),
    (
        lambda: DataOrder(X, 4, 0),
        r"samples must be an integer, got ndarray of shape \(8, 4\): pass a number, such as len\(array\)",
    ),
    (lambda: DataOrder(8, 2.5, 0), r"global_batch must be an integer, got 2\.5"),
    (lambda: DataOrder(8, 0, 0), "global_batch must be at least 1, got 0"),
    (lambda: DataOrder(8, 4, 0).batches("a"), "epoch must be an integer, got 'a'"),
    (lambda: DataOrder(8, 4, 0).batches(0, X), r"start must be an integer, got ndarray of shape \(8, 4\)"),
    (lambda: shard(Y, 0, 2), r"samples must be an integer, got ndarray of shape \(8,\): .*len\(array\)"),
    (lambda: shard(8, Rank().Get_rank, 2), r"rank must be an integer, got method Get_rank: call it, Get_rank\(\)"),
    (lambda: shard(8, 0, SerialComm()), "size must be an integer, got SerialComm"),
    (lambda: Dense(X, 3), r"in_features must be an integer, got ndarray of shape \(8, 4\): .*array\.shape\[1\]"),
    (lambda: F.batch_norm(X, channel_axis=len), "channel_axis must be an integer, got builtin.* len: call it, len"),
    (lambda: BatchNorm(4, eps=X), r"eps must be a number, got ndarray of shape \(8, 4\)"),
    (lambda: Adam(Dense(4, 3).parameters(), betas=0.9), r"pair of numbers, such as \(0\.9, 0\.999\), got 0\.9"),
    (lambda: StepSchedule(0.1, milestones=(5, "10")), "a milestone must be an integer, got '10'"),
    (lambda: Parameter(X).add_grad(None), r"a gradient must be .* parameter's shape \(8, 4\), got None"),
    (lambda: setattr(Parameter(X), "grad", X[0]), r"gradient of shape \(4,\) for a parameter of shape \(8, 4\)"),
    (
        lambda: predict(Sequential(Dense(4, 3)), X[0]),
        r"predict expects samples of shape \(N, \.\.\.\) .*, one sample as x\[None\], got \(4,\): layer 0",
    ),
    (lambda: predict(Dense(4, 3), X[0, 0]), r"predict expects an array of samples, of shape \(N, \.\.\.\), got "),
    (lambda: predict(Dense(4, 3), None), "predict expects an array of samples, .* got None"),
    (
        lambda: summary(Dense(4, 3), (None, 4)),
        r"input_shape must be the shape of one sample, .*, got \(None, 4\): a size must be an integer, got None",
    ),
    (
        lambda: summary(Dense(4, 3), (-1, 4)),
        r"input_shape must be the shape of one sample, .*, got \(-1, 4\): a size must be at least 1, got -1",
    ),
    (
        lambda: sum_gradients(trained(), SerialComm(), X),
        r"loss must be a number, got ndarray of shape \(8, 4\): pass the loss of this rank, the first of the two",
    ),
    (lambda: sum_gradients(trained(), SerialComm(), (0.5, Y)), r"got \(0\.5, ndarray of shape \(8,\)\): pass"),
    (lambda: Dense(4, 3).load_state_dict(Dense(4, 3)), r"got Dense: pass its \.state_dict\(\)"),
    (lambda: Dense(4, 3, dtype="cuda"), "dtype must be .* got 'cuda'"),
    (lambda: summary(Dense(4, 3), X), r"shape of one sample, .*x\.shape\[1:\].*, got ndarray of shape \(8, 4\)"),
    (lambda: summary(Dense(4, 3), 4), r"shape of one sample, .*x\.shape\[1:\].*, got 4"),
    (
        lambda: summary(Dense(4, 3), X.shape),
        r"shape of one sample, .*x\.shape\[1:\].*, got \(8, 4\): Dense expects x of shape",
    ),
]
