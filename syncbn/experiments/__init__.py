"""Runs with a question, a figure and a verdict. Import the modules: some need the packages of ``syncbn[cli]``."""
