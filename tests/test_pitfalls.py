"""Error texts say what to do, and name an entry of the page "Pitfalls"."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest

from syncbn import BatchNorm, GroupNorm, InstanceNorm, SerialComm
from syncbn import functional as F
from syncbn.data import load as load_data
from syncbn.layers import Module, Parameter
from syncbn.nn import SGD, Conv2d, Dense, ReLU, Sequential, softmax_cross_entropy
from syncbn.pitfalls import PAGE, see
from syncbn.train import CheckpointError, Trainer, evaluate

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
SOURCES = [path for path in (ROOT / "syncbn").rglob("*.py") if path.name != "pitfalls.py"]
NAMED = {entry for path in SOURCES for entry in re.findall(r"""\bsee\(["'](.*?)["']\)""", path.read_text("utf-8"))}

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
Y = np.zeros(8, int)
NHWC = np.ones((2, 8, 8, 9), np.float32)


def entries(text):
    """Return the anchors of the headings, as MyST and GitHub make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_page_has_an_entry_for_each_name_in_an_error_text():
    assert len(NAMED) > 30
    assert entries(TEXT) >= NAMED


def test_an_error_text_names_each_entry_about_a_message():
    assert entries(TEXT.partition("\n## Error messages\n")[2]) <= NAMED


class WithUnusedLayer(Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = Dense(4, 3), Dense(4, 3)

    def forward(self, x):
        return self.used(x)


def train(model=None, x=X, y=Y, **options):
    model = model or Sequential(Dense(4, 3))
    Trainer(model, SGD(model.parameters(), 0.1), SerialComm(), **options).fit(x, y, 1)


def other_parameters():
    Trainer(Sequential(Dense(4, 3)), SGD(Dense(4, 3).parameters(), 0.1), SerialComm())


def step_between():
    layer = BatchNorm(4)
    y, backward = layer(X)
    backward(y)
    SGD(layer.parameters(), 0.1).step()
    backward(y)


def load(**state):
    layer = BatchNorm(4)
    layer.load_state_dict({**layer.state_dict(), **state})


def tensor():
    return type("Tensor", (), {"__module__": "torch"})()


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
    "channels of instances": (lambda: InstanceNorm(9, affine=True)(NHWC), r"channel_axis=-1", "channels-last"),
    "channels of a convolution": (lambda: Conv2d(9, 1, 3)(NHWC), r"numpy\.moveaxis\(x, -1, 1\)", "channels-last"),
    "weight for the last axis": (lambda: F.batch_norm(NHWC, np.ones(9)), r"shape \(8,\)", "shapes-of-parameters"),
    "batch of one sample": (lambda: BatchNorm(4)(X[:1]), r"drop_last=True", "one-value-per-channel"),
    "one sample of an evaluation": (lambda: BatchNorm(4)(X[:1]), r"model\.eval\(\) if you", "one-value-per-channel"),
    "instance of one value": (lambda: F.instance_norm(X), r"layer or group", "one-value-per-channel"),
    "mask without elements": (lambda: F.batch_norm(X, mask=Y > 0), r"True selects", "masks-without-elements"),
    "mask of integers": (lambda: F.batch_norm(X, mask=Y), r"astype\(bool\)", "masks"),
    "out that overlaps x": (lambda: F.batch_norm(X, out=X), r"separate memory", "output-arrays"),
    "step before the backward": (step_between, r"call backward first", "arrays-that-must-not-change"),
    "copy of a communicator": (lambda: copy.deepcopy(FakeComm()), r"state_dict\(\)", "copies"),
    "missing key": (lambda: load(running_mea=X[0]), r"unexpected 'running_mea'", "states-that-do-not-fit"),
    "tensor of bfloat16": (lambda: load(weight=Bfloat16()), r"'weight' .*\.float\(\)", "states-that-do-not-fit"),
    "Keras's scale=False": (lambda: BatchNorm(4).load_keras_weights([X[0]] * 3), r"weight=False", "weights-of-keras"),
    "optimizer of a model": (lambda: SGD(Dense(4, 3), 0.1), r"model\.parameters\(\)", "optimizers"),
    "optimizer of one parameter": (lambda: SGD(Dense(4, 3).weight, 0.1), r"list of Parameters", "optimizers"),
    "optimizer of a PyTorch model": (
        lambda: SGD([tensor()], 0.1),
        r"syncbn Parameters, got torch\.Tensor",
        "optimizers",
    ),
    "optimizer of names": (lambda: SGD(Dense(4, 3).named_parameters(), 0.1), r"model\.parameters\(\)", "optimizers"),
    "optimizer of another model": (other_parameters, r"model\.parameters\(\) of this model", "optimizers"),
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


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_names_the_way_out(kind):
    if kind == "communicator of a string":
        pytest.importorskip("mpi4py")
    call, advice, entry = MISTAKES[kind]
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        call()
    assert re.search(advice, str(caught.value)), caught.value
    assert str(caught.value).endswith(see(entry))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Sequential([ReLU()]), r"got list: pass the layers themselves, Sequential\(\*layers\)"),
        (lambda: Sequential(ReLU), r"got type: call the class, ReLU\(\.\.\.\)"),
        (lambda: BatchNorm(4, momentum="0.1"), r"momentum must be in \[0, 1\] or None, got '0\.1'"),
    ],
)
def test_a_mistake_that_needs_no_entry(call, text):
    with pytest.raises((TypeError, ValueError), match=text):
        call()


def test_an_error_of_a_backward_names_the_layer():
    backward = Sequential(Dense(4, 3), Sequential(ReLU(), BatchNorm(3)))(X)[1]
    with pytest.raises(ValueError, match=r"^layer 1 \(Sequential\): layer 1 \(BatchNorm\): dy must have y's shape"):
        backward(X)


def test_an_error_about_another_checkpoint_error_names_the_entry_once():
    error = CheckpointError(f"run.npz: {CheckpointError('damaged')}")
    assert str(error) == f"run.npz: damaged{see('checkpoints')}"
