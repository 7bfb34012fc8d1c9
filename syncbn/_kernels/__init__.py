"""Compiled kernels, built from ext/*.pyx; `syncbn._dispatch` is the only door to them."""
