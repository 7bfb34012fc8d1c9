"""Experiments behind the ``syncbn`` command. Some modules need the packages of ``syncbn[cli]``."""
