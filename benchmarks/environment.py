"""Environment variables of the measuring processes, set before libraries are loaded, when many of them are read."""

from __future__ import annotations

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",  # syncbn, PyTorch
    "MKL_NUM_THREADS": "1",  # PyTorch
    "OPENBLAS_NUM_THREADS": "1",  # NumPy
    "NUMEXPR_NUM_THREADS": "1",
    "NPROC": "1",  # XLA's thread pools, which use two threads if only the flag for Eigen is set
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "GLOO_SOCKET_IFNAME": "lo",
}
"""Variables for one thread; timing.py also measures CPU time and raises for a candidate that uses more threads."""

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""Variables that keep glibc from returning memory to the system, after which the next candidate would map new pages."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "ORT_LOGGING_LEVEL": "3"}

VARIABLES = ONE_THREAD | KEPT_MEMORY | QUIET
"""All variables."""
