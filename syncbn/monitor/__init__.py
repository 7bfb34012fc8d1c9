"""Records of statistics, dead units and gradients of each layer during a training, as JSON lines and as a figure."""

from __future__ import annotations

from syncbn.monitor.figure import plot
from syncbn.monitor.monitor import Monitor
from syncbn.monitor.records import read_records

__all__ = ["Monitor", "plot", "read_records"]
