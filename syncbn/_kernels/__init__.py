"""Compiled modules, built from ext/*.pyx; see ext/README.md."""
