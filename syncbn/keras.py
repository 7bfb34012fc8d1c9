"""Synchronized batch normalization for Keras 3, on its PyTorch and JAX backends.

Importing this module imports keras, which ``import syncbn`` does not, and a layer imports the bridge to the backend in
use when it is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import keras
    from keras import ops
except ImportError as error:
    raise ImportError(
        f"syncbn.keras needs keras, and PyTorch or JAX as its backend: {error}. Set the environment variable "
        "KERAS_BACKEND=torch or KERAS_BACKEND=jax before the program imports keras"
    ) from None

from syncbn._core.checks import check_eps, check_flag, check_integer, is_number, shown
from syncbn.comm import SERIAL, CommLike, Communicator, as_communicator
from syncbn.comm.cache import world_of_launcher
from syncbn.comm.collective import collective
from syncbn.comm.errors import SyncMismatchError
from syncbn.comm.launcher import check_alone


@keras.saving.register_keras_serializable("syncbn")
class BatchNormalization(keras.layers.BatchNormalization):
    r"""Batch normalization of Keras, with the statistics of the batches of all ranks.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{epsilon}}} + β

    Collective in training, if ``synchronized``: every rank must call the layer and then differentiate. Inference never
    communicates, nor does a layer with ``trainable = False``, which uses its moving statistics as in Keras.

    Results of training are those of ``keras.layers.BatchNormalization`` on the concatenated batch, for ranks with
    different numbers of samples, or none. y, dx and moving statistics have the same bits for every number of ranks and
    every split of the samples. As in Keras, the moving variance is the average of the *biased* variances, and momentum
    is the weight of the *old* value. Gradients of gamma and beta are local sums of this rank: `distribute` averages all
    gradients. Unlike Keras, a batch with a single value per channel over all ranks is an error in training.

    Parameters
    ----------
    axis : int
        Channel axis; -1 is channels-last.
    momentum : float
        Weight of the old value in the moving statistics.
    epsilon : float
        Constant added to the variance.
    center, scale : bool
        Whether there are β (``beta``) and γ (``gamma``).
    synchronized : bool
        Whether statistics are those of all ranks. If not, they are those of this process, by the same kernels.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the statistics; it implies ``synchronized``. Default: the ranks of MPI if there are several,
        else, with PyTorch, the default process group of torch.distributed if it is initialized, else this process
        alone. It is not saved: a layer that was loaded or cloned has the default.
    **options
        Initializers, regularizers, constraints and other arguments of Keras's layer. Batch renormalization
        (``renorm=True``) is Keras's own, and cannot be synchronized.

    Raises
    ------
    NotImplementedError
        When the layer is built: Keras uses another backend, such as TensorFlow, whose tensors are not arrays in the
        memory of this process.
    ValueError, TypeError
        ``renorm=True`` of a synchronized layer. From the call: a single value per channel over all ranks, a mask
        that selects none, or an invalid argument.
    SyncMismatchError, SyncLostRankError, SyncTimeoutError
        From the call: another rank had invalid input, made a different call or did not enter it. From a function that
        JAX has compiled, it is a ``jax.errors.JaxRuntimeError`` with its text.

    See Also
    --------
    syncbn.keras.distribute : Synchronize the training too.

    Notes
    -----
    A mask has the shape of the input without the channel axis. The statistics are those of the selected elements of all
    ranks, and all elements are normalized with them. Half precision is computed in float32, as in Keras.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167; Peng et al. 2018, MegDet, arXiv:1711.07240.

    Examples
    --------
    >>> import keras
    >>> from syncbn.keras import BatchNormalization
    >>> model = keras.Sequential(
    ...     [keras.Input((784,)), keras.layers.Dense(64), BatchNormalization(synchronized=True)]
    ... )
    >>> model.count_params()
    50496
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        synchronized: bool = False,
        comm: CommLike = None,
        **options: Any,
    ) -> None:
        check_integer("axis", axis, None)
        check_eps(epsilon, "epsilon")
        if not (is_number(momentum) and 0 <= momentum <= 1):
            raise ValueError(f"momentum must be in [0, 1], got {shown(momentum)}")
        for name, flag in (("center", center), ("scale", scale), ("synchronized", synchronized)):
            check_flag(name, flag)
        try:
            super().__init__(axis, momentum, epsilon, center, scale, **options)
        except ValueError as error:
            if "Unrecognized" not in str(error):
                raise
            known = [*inspect.signature(keras.layers.BatchNormalization).parameters, "synchronized", "comm"]
            names = ", ".join(name for name in dict.fromkeys(known) if name != "kwargs")
            raise ValueError(f"{error}: expected options are {names}") from error
        self.synchronized = synchronized or comm is not None  # not passed on: Keras has it for TensorFlow only
        self._comm = None if comm is None else as_communicator(comm)
        if self.synchronized and self.renorm:
            raise ValueError("renorm=True cannot be synchronized: pass synchronized=False and no comm, or renorm=False")

    @property
    def comm(self) -> Communicator:
        """Communicator of the ranks that share the statistics. Collective where it has to be made."""
        return _communicator(self._comm) if self.synchronized else SERIAL

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the variables, as in Keras. Collective if the communicator has to be made."""
        _check_backend()
        if len(input_shape) < 2:
            raise ValueError(f"inputs must have 2 or more axes, got shape {tuple(input_shape)}")
        if not -len(input_shape) <= self.axis < len(input_shape):
            raise ValueError(
                f"axis must be that of the channels, of inputs of shape {tuple(input_shape)}, such as -1 for the last, "
                f"got {self.axis}: the number of channels is not an argument"
            )
        super().build(input_shape)
        self._normalize = _NORMALIZERS[keras.backend.backend()](self)

    @collective(lambda passed: passed["self"].comm if passed["self"].trainable and passed.get("training") else SERIAL)
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return y in the layer's compute dtype. Collective in training, and so are its errors."""
        if self.renorm:
            return super().call(inputs, training, mask)
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                f"mask must have the axes of the inputs without the channel axis, got shape {tuple(mask.shape)} for "
                f"inputs of shape {tuple(inputs.shape)}"
            )
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        gamma, beta, moving_mean, moving_variance = (
            None if each is None else ops.cast(each, x.dtype)
            for each in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if training and self.trainable:
            mask = None if mask is None else ops.cast(mask, "bool")
            y, mean, variance, count = self._normalize(x, gamma, beta, mask, self.epsilon, self.axis)
            for variable, old, new in (
                (self.moving_mean, moving_mean, mean),
                (self.moving_variance, moving_variance, variance),
            ):
                average = old * self.momentum + ops.cast(new, x.dtype) * (1.0 - self.momentum)
                variable.assign(ops.where(count > 0, average, old))
        else:
            shape = [1] * len(x.shape)
            shape[self.axis] = -1
            factor = ops.rsqrt(moving_variance + self.epsilon)
            factor = factor if gamma is None else factor * gamma
            y = (x - ops.reshape(moving_mean, shape)) * ops.reshape(factor, shape)
            y = y if beta is None else y + ops.reshape(beta, shape)
        return ops.cast(y, self.compute_dtype)


@collective(lambda passed: _communicator(passed.get("comm")))
def distribute(model: keras.Model, comm: CommLike = None) -> None:
    """Prepare a compiled model for `fit` on several ranks: equal weights, and averages of gradients.

    Collective. The weights of rank 0, and the state of its optimizer, are copied to all ranks now. From then on, each
    step of the optimizer uses the averages of the gradients over ranks, Σᵣ gᵣ/P, so all ranks keep equal parameters.
    Without it, each rank trains a model of its own, also where the statistics are synchronized.

    Call it after each ``compile``, and after loading a model: it is not saved. Each rank passes its own share of the
    samples to ``fit``; all must run the same numbers of steps. Averages are right if the batches of all ranks have
    equal sizes; otherwise pass the sample weight P·nᵣ/Σᵣ nᵣ for all samples of a batch.

    Not synchronized are metrics, losses in the log and decisions of callbacks: they are those of this rank's samples.

    Parameters
    ----------
    model : keras.Model
        Model that is built and compiled.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that train. Default: as for `BatchNormalization`.

    Raises
    ------
    TypeError, ValueError
        ``model`` is not a Keras model, or is not built or not compiled.
    SyncMismatchError
        Ranks have different models, or another rank had an invalid argument.

    See Also
    --------
    syncbn.keras.BatchNormalization : The layer.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> from syncbn.keras import BatchNormalization, distribute
    >>> model = keras.Sequential([keras.Input((4,)), BatchNormalization(synchronized=True), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> distribute(model)
    >>> x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    >>> history = model.fit(x, x[:, :1], batch_size=8, verbose=0)  # x: the samples of this rank
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {shown(model)}")
    if not model.built or getattr(model, "optimizer", None) is None:
        raise ValueError("model must be built and compiled: give it a keras.Input, and call compile() before")
    _check_backend()
    communicator, optimizer = _communicator(comm), model.optimizer
    transform = _TRANSFORMS[keras.backend.backend()]()
    variables = [*model.weights, *optimizer.variables]
    own = [f"{variable.dtype} {tuple(variable.shape)}" for variable in variables]
    for rank, others in enumerate(of_ranks := communicator.allgather(own)):
        if others != of_ranks[0]:  # all ranks find the same
            different = [f"{one} and {other}" for one, other in zip(of_ranks[0], others, strict=False) if one != other]
            raise SyncMismatchError(
                f"ranks 0 and {rank} have different models or optimizers, of {len(of_ranks[0])} and {len(others)} "
                f"variables{': ' + different[0] if different else ''}. Build and compile the same model on all ranks"
            )
    for variable in variables:
        array = np.array(ops.convert_to_numpy(variable.value), order="C")
        communicator.broadcast(array.reshape(-1).view(np.uint8))
        variable.assign(array)
    function, kind = partial(_average, communicator), type(optimizer)

    def average(grads: Sequence[Any], weights: Sequence[Any] | None) -> Sequence[Any]:
        weights = optimizer._trainable_variables if weights is None else weights
        # A variable that this rank does not use has the gradient 0, and others may use it.
        gradients = [
            ops.zeros_like(weight) if gradient is None else gradient
            for gradient, weight in zip(grads, weights, strict=True)
        ]
        averages: Sequence[Any] = transform(function, gradients)
        return averages

    # The methods that Keras's training steps call; a LossScaleOptimizer then checks the averages, as all ranks do.
    if keras.backend.backend() == "jax":
        optimizer.stateless_apply = lambda variables, grads, weights: kind.stateless_apply(
            optimizer, variables, average(grads, weights), weights
        )
    else:
        optimizer.apply = lambda grads, weights=None: kind.apply(optimizer, average(grads, weights), weights)


def _check_backend() -> None:
    if (backend := keras.backend.backend()) not in _NORMALIZERS:
        raise NotImplementedError(
            f"syncbn.keras works on the torch and jax backends of Keras, got {backend!r}, whose tensors it cannot "
            "normalize and differentiate: set the environment variable KERAS_BACKEND to torch or jax"
        )


def _average(comm: Communicator, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return the averages over ranks of some arrays, which are one message. Collective."""
    dtype = np.result_type(np.float32, *(array.dtype for array in arrays))
    packed = np.concatenate([array.astype(dtype).ravel() for array in arrays])
    comm.allreduce(packed)
    packed /= comm.size
    parts = np.split(packed, np.cumsum([array.size for array in arrays])[:-1])
    return tuple(part.reshape(array.shape).astype(array.dtype) for part, array in zip(parts, arrays, strict=True))


def _communicator(comm: CommLike) -> Communicator:
    """Return the communicator; for None, the default one, for which `BatchNormalization` describes the choice."""
    if comm is not None:
        return as_communicator(comm)
    if keras.backend.backend() == "torch":
        from syncbn.torch.groups import default_communicator

        return default_communicator()
    world = world_of_launcher()
    if world is None:
        check_alone()
    return world or SERIAL


def _torch_normalizer(layer: BatchNormalization) -> Callable[..., Any]:
    from syncbn.torch.groups import group_of
    from syncbn.torch.stateless import normalize

    group = group_of(layer._comm) if layer.synchronized else None
    name = "" if group is None else group.identify("keras.BatchNormalization")
    return partial(normalize, group=group, name=name)


def _jax_normalizer(layer: BatchNormalization) -> Callable[..., Any]:
    from syncbn.jax import normalize

    return partial(normalize, comm=layer.comm)


def _torch_transform() -> Callable[..., Any]:
    from syncbn.torch.stateless import transform

    return transform


def _jax_transform() -> Callable[..., Any]:
    from syncbn.jax import transform

    return transform


_NORMALIZERS = {"torch": _torch_normalizer, "jax": _jax_normalizer}
"""Functions that return the normalization of a layer, by the backend of Keras."""

_TRANSFORMS = {"torch": _torch_transform, "jax": _jax_transform}
"""Functions that return what applies a function of NumPy arrays to tensors, by the backend of Keras."""
