"""The machine of a run: processor, load and instruction sets."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

BUSY = 0.5
"""Load average from which timings are unreliable."""

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {  # names in /proc/cpuinfo and common names
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
    """Return the load average of the last minute; 0 if the system does not provide it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def busy_warning(load: float) -> list[str]:
    """Return a warning in a list if other programs used the cores during the measurement, otherwise []."""
    if load < BUSY:
        return []
    return [f"other programs were running (load {load:.1f}): times are too long because ranks wait for each other"]


def memory_bytes() -> int:
    """Return the size of the physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def host_name() -> str:
    """Return the name of this node; ranks with equal names share its cores."""
    return socket.gethostname()


def cpu_model() -> str:
    """Return the name of the processor, or its architecture if the system provides no name.

    Virtual machines report one name for many processors, so family and model are appended where they are known.
    """
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name}, family {family}, model {model}" if family and model else name


def instruction_sets() -> list[str]:
    """Return the vector instruction sets of this processor; [] without /proc/cpuinfo."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in _FLAGS.items() if flag in flags]


def _cpuinfo(key: str) -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key)
    return next(found, "")
