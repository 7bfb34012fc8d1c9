"""The networks of `syncbn compare` with Batch Normalization in PyTorch, with equal names of weights."""

from __future__ import annotations

import torch
from torch import nn

from syncbn.experiments.networks import BLOCKS, HIDDEN, STEM


class ResidualBlock(nn.Module):
    """Residual block y = relu(branch(x) + shortcut(x)), as `syncbn.nn.ResidualBlock`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()

        def convolution(channels: int, kernel: int, step: int) -> list[nn.Module]:
            conv = nn.Conv2d(channels, out_channels, kernel, step, kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(out_channels)]

        self.branch = nn.Sequential(
            *convolution(in_channels, 3, stride), nn.ReLU(inplace=True), *convolution(out_channels, 3, 1)
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Sequential(*([] if same else convolution(in_channels, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y."""
        return self.relu(self.branch(x) + self.shortcut(x))


class GlobalAvgPool2d(nn.Module):
    """Global average pooling."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an array of shape (N, C)."""
        return x.mean((2, 3))


def build_mlp(features: int, classes: int) -> nn.Sequential:
    """Return the network of two hidden layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (features, HIDDEN):
        layers += [nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, classes))


def build_resnet(channels: int, classes: int) -> nn.Sequential:
    """Return the residual network."""
    stem = [nn.Conv2d(channels, STEM, 3, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)]
    blocks = [ResidualBlock(*block) for block in BLOCKS]
    return nn.Sequential(*stem, *blocks, GlobalAvgPool2d(), nn.Linear(HIDDEN, classes))
