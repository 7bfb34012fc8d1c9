"""Tests of exactness: equal bits on any number of ranks, and error bounds."""
