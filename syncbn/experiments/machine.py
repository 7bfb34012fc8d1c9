"""The machine under a run: processor, cores, instruction sets."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

BUSY = 0.5
"""Load from which on times are not to be trusted."""

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {  # as /proc/cpuinfo names them: what people call them
    "sse2": "SSE2",
    "avx": "AVX",
    "fma": "FMA",
    "avx2": "AVX2",
    "avx512f": "AVX-512F",
    "avx512bw": "AVX-512BW",
    "avx512vl": "AVX-512VL",
    "asimd": "NEON",
    "sve": "SVE",
}


def load_average() -> float:
    """Return how many processes want a core, over the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def busy_warning(load: float) -> list[str]:
    """Return a line that says so where other programs kept cores busy while times were taken, else none."""
    if load < BUSY:
        return []
    return [f"other programs were running (load {load:.1f}): times are too long, and ranks wait for each other"]


def host_name() -> str:
    """Return the name of this node: ranks with the same name share its cores."""
    return socket.gethostname()


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system gives no name.

    Virtual machines give many processors one name: where the system tells family and model, they stand beside it.
    """
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name}, family {family}, model {model}" if family and model else name


def instruction_sets() -> list[str]:
    """Return the vector instruction sets of this processor; empty where /proc/cpuinfo is missing."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in _FLAGS.items() if flag in flags]


def _cpuinfo(key: str) -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key)
    return next(found, "")
