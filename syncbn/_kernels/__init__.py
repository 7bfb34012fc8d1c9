"""Compiled kernels, built from ext/*.pyx; `syncbn._core` is the only door to them."""
