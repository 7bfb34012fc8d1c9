"""A run as tables and as pictures."""
