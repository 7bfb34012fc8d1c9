"""The environment of the processes that measure: set before any library is loaded, since many read it only then."""

from __future__ import annotations

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",  # syncbn, PyTorch
    "MKL_NUM_THREADS": "1",  # PyTorch
    "OPENBLAS_NUM_THREADS": "1",  # NumPy
    "NUMEXPR_NUM_THREADS": "1",
    "NPROC": "1",  # XLA's own pools: flags for Eigen alone leave it two threads
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "GLOO_SOCKET_IFNAME": "lo",
}
"""timing.py measures the CPU time too, and refuses a candidate that has used more than its threads."""

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""glibc gives memory back to the system now and then, and whoever comes next pays for new pages. Here nobody does."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "ORT_LOGGING_LEVEL": "3"}

VARIABLES = ONE_THREAD | KEPT_MEMORY | QUIET
"""All of it."""
