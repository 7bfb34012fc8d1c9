"""The promise "the same bits on any number of ranks", and the error bounds."""
