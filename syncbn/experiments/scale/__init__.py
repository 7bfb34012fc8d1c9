"""What synchronizing costs on more ranks than there are here: a model, its parameters and its check.

Times are microseconds, sizes bytes, and rates microseconds per byte, unless a name says otherwise.
"""
