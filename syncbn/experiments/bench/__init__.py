"""The benchmark of ``syncbn bench``: kernels, messages and synchronized layers, and advice."""
