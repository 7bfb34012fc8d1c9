"""Test harness that runs a suite on MPI ranks and detects failures on any of them.

Files::

    plugin     pytest plugin of every run: which tests run here, the fixtures of ranks, the completion report
    agreement  pytest plugin of runs on ranks: equal outcomes on all ranks, deadlines, the output of rank 0 alone
    watchdog   a deadline that ends a rank after all ranks have written their stacks
    world      the ranks of this run
"""
