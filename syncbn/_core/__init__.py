"""The entry point to compiled code.

Files::

    plans        the functions of all normalizers, compiled (ext/plans.pyx): one path for every call
    conversion   arguments that plans cannot use as they are, and results in the caller's dtype and memory order
    checks       errors that explain why an argument is refused
    pitfalls     references from error texts to the documentation
    kernels      the loops over values: compiled for an instruction set, or the reference implementation
    threads      the number of threads of a kernel
"""

from __future__ import annotations
