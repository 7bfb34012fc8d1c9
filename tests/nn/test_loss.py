from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_function
from scipy.special import log_softmax

from syncbn.nn import mean_squared_error, softmax_cross_entropy


@pytest.mark.parametrize("normalizer", [None, 7.0])
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e3])
def test_gradients(offset, normalizer, rng):
    labels = rng.integers(0, 5, 6)

    def loss(logits):
        value, dlogits = softmax_cross_entropy(logits, labels, normalizer)
        return value, lambda dy: dy * dlogits

    check_function(loss, offset + rng.standard_normal((6, 5)), rng=rng, step=1e-4 / (1 + abs(offset)) ** 0.3)


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("normalizer", [None, 32])
def test_value_equals_scipy(n, offset, normalizer, rng):
    logits, labels = offset + 3 * rng.standard_normal((n, 5)), rng.integers(0, 5, n)
    expected = -log_softmax(logits, axis=1)[np.arange(n), labels].sum() / (normalizer or n)
    assert softmax_cross_entropy(logits, labels, normalizer)[0] == pytest.approx(expected, rel=1e-12)


def test_is_computed_in_float64_and_gradient_has_the_dtype_of_the_logits(rng):
    logits, labels = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    loss, dlogits = softmax_cross_entropy(logits, labels)
    loss64, dlogits64 = softmax_cross_entropy(logits.astype(np.float64), labels)
    assert loss == loss64
    assert dlogits.dtype == np.float32
    np.testing.assert_array_equal(dlogits, dlogits64.astype(np.float32))


def test_uneven_and_empty_shards_add_up_to_the_whole_batch(rng):
    logits, labels = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    loss, dlogits = softmax_cross_entropy(logits, labels)
    shards = [softmax_cross_entropy(logits[a:b], labels[a:b], 6) for a, b in [(0, 1), (1, 1), (1, 5), (5, 6)]]
    assert sum(shard for shard, _ in shards) == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(np.concatenate([grad for _, grad in shards]), dlogits, rtol=1e-14)
    means = [softmax_cross_entropy(logits[a:b], labels[a:b])[0] for a, b in [(0, 1), (1, 6)]]
    assert np.mean(means) != pytest.approx(loss, rel=1e-3)  # the control: the mean of the means differs


def test_extreme_logits_neither_overflow_nor_lose_the_loss():
    logits = np.array([[1e5, -1e5], [1e5, -1e5]], np.float32)
    loss, dlogits = softmax_cross_entropy(logits, np.array([0, 1]), 1)
    assert loss == 2e5
    np.testing.assert_array_equal(dlogits, [[0, 0], [1, -1]])


def test_diverged_logits_give_nan_without_a_warning():
    loss, dlogits = softmax_cross_entropy(np.array([[np.inf, 0.0], [1.0, 2.0]]), np.array([0, 1]))
    assert np.isnan(loss)
    assert np.isnan(dlogits[0]).any()
    assert np.isfinite(dlogits[1]).all()


@pytest.mark.parametrize(
    ("label", "text"), [(5, "label 5 of sample 2 is outside 0 to 4"), (-1, "label -1 of sample 2")]
)
def test_labels_out_of_range(label, text):
    with pytest.raises(ValueError, match=text):
        softmax_cross_entropy(np.zeros((3, 5)), np.array([0, 4, label]))


def test_wrong_arguments():
    logits, labels = np.zeros((3, 5)), np.array([0, 1, 2])
    with pytest.raises(ValueError, match=r"labels .*\(3, 1\).*\(3,\)"):
        softmax_cross_entropy(logits, labels[:, None])
    with pytest.raises(TypeError, match=r"labels .*float64"):
        softmax_cross_entropy(logits, labels.astype(float))
    with pytest.raises(ValueError, match=r"x .*\(N, K\).*\(5,\)"):
        softmax_cross_entropy(logits[0], labels)
    for normalizer in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="normalizer"):
            softmax_cross_entropy(logits, labels, normalizer)


def test_mean_squared_error(rng):
    y, targets = rng.standard_normal((5, 3, 2)), rng.standard_normal((5, 3, 2))
    loss, dy = mean_squared_error(y, targets)
    assert loss == pytest.approx(np.mean((y - targets) ** 2), rel=1e-14)
    np.testing.assert_allclose(dy, 2 * (y - targets) / 30, rtol=1e-14)
    shards = [mean_squared_error(y[part], targets[part], 5) for part in (slice(0, 1), slice(1, 1), slice(1, 5))]
    assert sum(part for part, _ in shards) == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(np.concatenate([part for _, part in shards]), dy, rtol=1e-14)
    vector_loss, vector_dy = mean_squared_error(y[:, 0, 0].astype(np.float32), [0, 1, 2, 3, 4])
    assert vector_loss == pytest.approx(np.mean((y[:, 0, 0] - np.arange(5)) ** 2), rel=1e-6)
    assert vector_dy.dtype == np.float32


def test_mean_squared_error_gradient(rng):
    targets = rng.standard_normal((4, 3))

    def loss_and_gradient(y):
        value, dy = mean_squared_error(y, targets, 7.0)
        return np.float64(value), lambda scale: scale * dy

    check_function(loss_and_gradient, rng.standard_normal((4, 3)), rng=rng)


def test_mean_squared_error_refuses(rng):
    y = rng.standard_normal((4, 1))
    with pytest.raises(ValueError, match=r"one shape \(N, ...\), got \(4, 1\) and \(4,\)"):
        mean_squared_error(y, y[:, 0])  # NumPy would broadcast them to (4, 4)
    with pytest.raises(ValueError, match=r"got \(\) and \(\)"):
        mean_squared_error(np.ones(()), np.ones(()))
    with pytest.raises(TypeError, match="targets must be real numbers, got complex128"):
        mean_squared_error(y, y + 1j)
    with pytest.raises(TypeError, match="expects float32 or float64, got int64"):
        mean_squared_error(np.ones((2, 1), int), np.ones((2, 1)))
    with pytest.raises(ValueError, match="normalizer must be positive"):
        mean_squared_error(y, y, 0)
