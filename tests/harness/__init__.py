"""Runs the test suite on MPI ranks so that no failure on any of them goes unseen."""
