from __future__ import annotations

import math

import numpy as np
import pytest

from syncbn.layers.parameter import Parameter
from syncbn.nn import SGD, Adam, Dense

STEPS = 6


def sgd_by_hand(p, gradients, lr, momentum, nesterov, decay):
    velocity = 0.0
    for step, g in enumerate(gradients):
        g = g + decay * p
        velocity = g if step == 0 else momentum * velocity + g
        p = p - lr * (g + momentum * velocity if nesterov else velocity if momentum else g)
    return p


def adam_by_hand(p, gradients, lr, beta1, beta2, eps, decay):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g + decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return p


def make_parameters(rng, dtype=np.float64):
    shapes = [(3, 2), (4,), (2, 1, 2)]
    return [Parameter(rng.standard_normal(s).astype(dtype), decay=i != 1) for i, s in enumerate(shapes)]


def make_gradients(rng, parameters, steps=STEPS):
    return [[rng.standard_normal(p.data.shape).astype(p.data.dtype) for p in parameters] for _ in range(steps)]


def run(optimizer, gradients):
    for of_step in gradients:
        for parameter, grad in zip(optimizer.parameters, of_step, strict=True):
            parameter.grad = grad.copy()
        optimizer.step()


def check_against(by_hand, optimizer, start, gradients, decay):
    for position, (parameter, before) in enumerate(zip(optimizer.parameters, start, strict=True)):
        for index in np.ndindex(before.shape):
            history = [float(of_step[position][index]) for of_step in gradients]
            expected = by_hand(float(before[index]), history, decay if parameter.decay else 0.0)
            assert parameter.data[index] == pytest.approx(expected, rel=1e-11), (position, index)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_equals_scalar_loops(momentum, nesterov, decay, rng):
    parameters = make_parameters(rng)
    start, gradients = [p.data.copy() for p in parameters], make_gradients(rng, parameters)
    optimizer = SGD(parameters, 0.1, momentum, nesterov, decay)
    run(optimizer, gradients)
    check_against(
        lambda p, history, decay: sgd_by_hand(p, history, 0.1, momentum, nesterov, decay),
        optimizer, start, gradients, decay,
    )  # fmt: skip


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8)])
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam_equals_scalar_loops(betas, eps, decay, rng):
    parameters = make_parameters(rng)
    start, gradients = [p.data.copy() for p in parameters], make_gradients(rng, parameters)
    optimizer = Adam(parameters, 0.1, betas, eps, decay)
    run(optimizer, gradients)
    check_against(
        lambda p, history, decay: adam_by_hand(p, history, 0.1, *betas, eps, decay), optimizer, start, gradients, decay
    )


OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, 0.1, weight_decay=0.01),
    "momentum": lambda parameters: SGD(parameters, 0.1, 0.9, weight_decay=0.01),
    "nesterov": lambda parameters: SGD(parameters, 0.1, 0.9, nesterov=True),
    "adam": lambda parameters: Adam(parameters, 0.1, weight_decay=0.01),
}
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@each_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_run_ends_with_the_same_bits(make, dtype, rng):
    parameters = make_parameters(rng, dtype)
    gradients = make_gradients(rng, parameters)
    optimizer = make(parameters)
    run(optimizer, gradients[:3])
    optimizer.lr = 0.07
    saved, values = optimizer.state_dict(), [p.data.copy() for p in parameters]
    run(optimizer, gradients[3:])

    def finish(load):
        again = [Parameter(value.copy(), decay=p.decay) for p, value in zip(parameters, values, strict=True)]
        resumed = make(again)
        resumed.lr = 0.07
        if load:
            resumed.load_state_dict(saved)
        run(resumed, gradients[3:])
        return all(a.data.tobytes() == p.data.tobytes() for a, p in zip(again, parameters, strict=True))

    assert finish(load=True)
    has_memory = len(saved) > 1
    assert finish(load=False) != has_memory


@each_optimizer
def test_state_is_a_copy_and_holds_the_learning_rate(make, rng):
    parameters = make_parameters(rng)
    optimizer = make(parameters)
    optimizer.lr = 0.125
    saved = optimizer.state_dict()
    before = {name: array.copy() for name, array in saved.items()}
    run(optimizer, make_gradients(rng, parameters))
    optimizer.lr = 0.5
    for name, array in saved.items():
        np.testing.assert_array_equal(array, before[name])
    optimizer.load_state_dict(saved)
    assert optimizer.lr == 0.125
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("make", [SGD, Adam])
def test_learning_rate_is_another_name_of_lr(make, rng):
    optimizer = make(make_parameters(rng), 0.1)
    optimizer.learning_rate = 0.5
    assert optimizer.lr == optimizer.learning_rate == optimizer.state_dict()["lr"] == 0.5
    assert repr(optimizer).startswith(f"{make.__name__}(lr=0.5, ")
    assert "learning_rate" not in optimizer.settings()
    with pytest.raises(ValueError, match="lr must be a finite number of at least 0, got -1"):
        optimizer.learning_rate = -1


def test_a_state_that_does_not_fit_changes_nothing(rng):
    optimizer = SGD(make_parameters(rng), 0.1, 0.9)
    state = optimizer.state_dict()
    bad = {**state, "lr": 0.5, "momentum_buffer.1": np.ones(5), "exp_avg.0": np.ones(3)}
    del bad["momentum_buffer.2"]
    with pytest.raises(ValueError, match="does not fit SGD") as error:
        optimizer.load_state_dict(bad)
    for text in (
        "missing 'momentum_buffer.2'",
        "unexpected 'exp_avg.0'",
        "'momentum_buffer.1' has shape (5,), expected (4,)",
    ):
        assert text in str(error.value)
    assert optimizer.lr == 0.1
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.load_state_dict({**state, "lr": -1.0, "momentum_buffer.1": np.ones(4)})
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


@each_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_in_place_in_the_dtype_and_leaves_gradients(make, dtype, rng):
    parameters = make_parameters(rng, dtype)
    arrays = [p.data for p in parameters]
    optimizer = make(parameters)
    optimizer.lr = np.float64(0.1)  # a schedule may return float64, which NumPy would promote float32 to
    gradients = make_gradients(rng, parameters, 2)
    run(optimizer, gradients)
    for parameter, array, grad in zip(parameters, arrays, gradients[-1], strict=True):
        assert parameter.data is array
        assert array.dtype == dtype
        np.testing.assert_array_equal(parameter.grad, grad)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


@each_optimizer
def test_parameters_without_gradient_and_their_state_are_unchanged(make, rng):
    late, always = make_parameters(rng)[:2]
    separate = Parameter(late.data.copy())
    optimizer, separate_optimizer = make([late, always]), make([separate])
    for step in range(4):
        grads = rng.standard_normal(late.data.shape), rng.standard_normal(always.data.shape)
        before = late.data.copy()
        late.grad, always.grad = (grads[0] if step >= 2 else None), grads[1]
        optimizer.step()
        if step < 2:
            np.testing.assert_array_equal(late.data, before)
        else:
            separate.grad = grads[0]
            separate_optimizer.step()
    np.testing.assert_array_equal(late.data, separate.data)


def test_a_step_without_any_gradient_is_an_error(rng):
    layer, other = Dense(3, 2), Dense(3, 2)
    optimizer = SGD(layer.parameters(), 0.1)
    _, backward = other(rng.standard_normal((4, 3)).astype(np.float32))
    backward(np.ones((4, 2), np.float32))  # of another model
    with pytest.raises(RuntimeError, match=r"no parameter of the optimizer has a gradient: call the backward"):
        optimizer.step()


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (SGD, {"lr": -0.1}, "lr must be a finite number of at least 0, got -0.1"),
        (SGD, {"lr": math.nan}, "lr must be"),
        (SGD, {"lr": 0.1, "momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        (SGD, {"lr": 0.1, "nesterov": True}, "nesterov needs a momentum"),
        (SGD, {"lr": 0.1, "weight_decay": math.inf}, "weight_decay must be"),
        (Adam, {"lr": math.inf}, "lr must be"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas\[1\] must be in"),
        (Adam, {"betas": (-0.1, 0.9)}, r"betas\[0\] must be in"),
        (Adam, {"betas": (0.9,)}, "betas must be a pair"),
        (Adam, {"eps": -1e-8}, "eps must be"),
    ],
)
def test_bad_hyperparameters(optimizer, options, message, rng):
    with pytest.raises(ValueError, match=message):
        optimizer(make_parameters(rng), **options)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_bad_parameters(optimizer, rng):
    parameters = make_parameters(rng)
    with pytest.raises(ValueError, match="at least one Parameter"):
        optimizer([], 0.1)
    with pytest.raises(ValueError, match="twice"):
        optimizer([*parameters, parameters[0]], 0.1)
    with pytest.raises(TypeError, match=r"expects syncbn Parameters, got ndarray of shape \(3, 2\) at 0"):
        optimizer([parameters[0].data], 0.1)
    with pytest.raises(ValueError, match="lr must be"):
        optimizer(parameters, 0.1).lr = -1


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Adam(p, lr=0.01),
        lambda p: Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: SGD(p, lr=0.01),
        lambda p: SGD(p, lr=0.01, momentum=0.9),
        lambda p: SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    ],
)
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 300.0])
def test_steps_of_float16_are_those_of_float64_rounded(make, scale, rng):
    """Squares of gradients of 1e-4 and less are 0 in float16, and those of 300 infinite."""
    half = Parameter(rng.standard_normal(50).astype(np.float16))
    double = Parameter(half.data.astype(np.float64))
    optimizers = make([half]), make([double])
    for _ in range(STEPS):
        half.grad = (rng.standard_normal(50) * scale).astype(np.float16)
        double.grad = half.grad.astype(np.float64)
        double.data[...] = half.data  # each step begins with the same values
        for optimizer in optimizers:
            optimizer.step()
        assert half.data.dtype == np.float16
        np.testing.assert_allclose(half.data, double.data, rtol=2**-10, atol=2**-24)
    optimizers[0].load_state_dict(optimizers[0].state_dict())


def test_momentum_that_is_set_later():
    layer, x = Dense(4, 3, rng=0), np.ones((2, 4), np.float32)
    optimizer = SGD(layer.parameters(), 0.1)
    optimizer.momentum = 0.5
    y, backward = layer(x)
    backward(np.ones_like(y))
    before = layer.bias.data.copy()
    optimizer.step()
    optimizer.step()
    np.testing.assert_allclose(before - layer.bias.data, np.full(3, 0.1 * 2 * (1 + 1.5)), rtol=1e-5)
