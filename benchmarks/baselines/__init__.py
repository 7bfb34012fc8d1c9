"""Candidates of the benchmark: syncbn and its baselines, one file per library, each in its fastest form."""
