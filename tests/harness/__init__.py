"""Test harness that runs a suite on MPI ranks and detects failures on any of them."""
