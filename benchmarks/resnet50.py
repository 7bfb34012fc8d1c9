"""The 53 batch normalization layers of ResNet-50, from where `syncbn scale` and `syncbn bench` have them."""

from syncbn.experiments.bn_layers import RESNET50

__all__ = ["RESNET50"]
