"""The cost of synchronization on many ranks: a model, its parameters and its validation.

Times are microseconds, sizes bytes, and rates microseconds per byte, unless a name says otherwise.
"""
