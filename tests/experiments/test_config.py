"""Invalid configurations raise errors of one line."""

from __future__ import annotations

from typing import Any

import pytest

from syncbn.experiments.config import CompareConfig, scaled
from syncbn.experiments.normalizers import NORMALIZERS


def test_learning_rate_grows_with_the_global_batch() -> None:
    assert scaled(0.1, 32) == pytest.approx(0.1)
    assert scaled(0.1, 8) == pytest.approx(0.025)


def test_steps_exclude_an_incomplete_last_batch() -> None:
    assert CompareConfig(epochs=3).steps(global_batch=8, samples=20) == 6


def test_batches_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"8 samples per rank on 4 ranks .* 31 "):
        CompareConfig(batches=(2, 8)).check_batches(4, 31)
    with pytest.raises(ValueError, match="norm 'bn' needs batches of at least 2"):
        CompareConfig(batches=(1, 8)).check_batches(4, 64)
    with pytest.raises(ValueError, match="norm 'syncbn' needs batches of at least 2"):
        CompareConfig(norms=("syncbn",), batches=(1,)).check_batches(1, 64)
    CompareConfig(norms=("syncbn",), batches=(1,)).check_batches(2, 64)
    CompareConfig(network="resnet", batches=(1, 8)).check_batches(4, 64)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"norms": ("bn", "foo")}, f"unknown norm 'foo' .choose from {', '.join(NORMALIZERS)}"),
        ({"norms": ("bn", "bn")}, "norm 'bn' is given twice"),
        ({"norms": ()}, "at least one norm"),
        ({"norms": ("in",)}, "norm 'in' does not fit network 'mlp': it needs more than one value"),
        ({"norms": ("rms",), "network": "resnet"}, "norm 'rms' does not fit network 'resnet'"),
        ({"network": "vgg"}, "unknown network 'vgg'"),
        ({"reduction": "float16"}, "unknown reduction"),
        ({"batches": (2, 0)}, "batches must be different positive numbers, got '2,0'"),
        ({"batches": (2, 2)}, "batches must be different"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"seeds": -1}, "seeds must be at least 1"),
        ({"train_samples": 0}, "train-samples must be at least 1"),
        ({"lr": (float("nan"),)}, "lr must be different positive numbers, got 'nan'"),
        ({"lr": (0.1, float("inf"))}, "lr must be different positive numbers, got '0.1,inf'"),
        ({"lr": (0.1, 0.1)}, "lr must be different positive numbers, got '0.1,0.1'"),
        ({"lr": ()}, "lr must be different positive numbers, got ''"),
    ],
)
def test_invalid_values(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CompareConfig(**choice)
    assert "\n" not in str(caught.value)
