"""The reference implementation of every compiled kernel: same name, same signature, same results, in NumPy.

The kernels go through a block of channels at a time; a reference implementation makes its steps one after the other,
each a function of its own.

Every public function of a module without an underscore in its name implements the kernel of its name; the other modules
hold the steps that these share.

It is the oracle of the tests and the place to read what a kernel computes. ``SYNCBN_KERNELS=reference``
in the environment runs the whole package on it.

Axes are in the names: n samples, c channels, s values of a row, r rows, d features. ncs is channels-first
memory, nsc channels-last. Arrays ending in ``_nc`` of means and factors have 1 or N rows. A mask of shape
(0, 0) selects everything. A comment in each parameter list separates inputs from outputs; ``threads`` is for the
compiled kernels alone.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

__all__: list[str] = []

for _info in pkgutil.iter_modules(__path__):
    if not _info.name.startswith("_"):
        _module = importlib.import_module(f"{__name__}.{_info.name}")
        for _name, _function in inspect.getmembers(_module, inspect.isfunction):
            if _function.__module__ == _module.__name__ and not _name.startswith("_"):
                globals()[_name] = _function
                __all__ += [_name]
