"""Training images: a packaged subset of Fashion-MNIST, all of it, or a directory of idx files or of CIFAR-10."""

from __future__ import annotations

from syncbn.data.dataset import Dataset
from syncbn.data.errors import DataError
from syncbn.data.idx import read_idx
from syncbn.data.inputs import Inputs, prepare
from syncbn.data.sources import NAMES, load

__all__ = ["NAMES", "DataError", "Dataset", "Inputs", "load", "prepare", "read_idx"]
