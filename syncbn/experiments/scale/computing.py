"""Time of the rest of a training step."""

from __future__ import annotations

import statistics
import time

import numpy as np

from syncbn.comm import SERIAL
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import Network
from syncbn.experiments.scale.measurement import Measurement

MULTIPLY_ADDS = 3.8e9
"""Multiply-adds of the forward of ResNet-50 for one sample (He et al. 2016, arXiv:1512.03385, table 1); the backward
has twice as many."""

IMAGE_SHAPES: dict[Network, tuple[int, int, int]] = {"mlp": (1, 28, 28), "resnet": (1, 7, 7)}


def resnet50_milliseconds(batch: int, measurement: Measurement) -> float:
    """Return the time of ResNet-50's multiply-adds at the speed of matrix products, and of its BN layers.

    Convolutions are usually slower, so this underestimates the step and overestimates the share of synchronization.

    Parameters
    ----------
    batch : int
        Samples per rank.
    measurement : Measurement
    """
    return (3 * MULTIPLY_ADDS * batch / measurement.multiply_adds + measurement.layers["local"]) / 1e3


def network_milliseconds(network: Network, batch: int, steps: int = 20) -> float:
    """Return the measured time of forward and backward through a network of ``syncbn compare`` with local BN.

    Parameters
    ----------
    network : {"mlp", "resnet"}
    batch : int
        Samples per rank.
    steps : int
        Number of steps of the median.
    """
    shape = IMAGE_SHAPES[network]
    model = build_network(network, "bn", 0, image_shape=shape, classes=10, comm=SERIAL)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *shape), dtype=np.float32)
    dy = rng.standard_normal((len(x), 10), dtype=np.float32)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        _, backward = model(x)
        backward(dy)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[1:])
