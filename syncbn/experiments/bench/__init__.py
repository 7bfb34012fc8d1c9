"""What kernels, messages and synchronized layers take on the user's machine, and what follows from that."""
