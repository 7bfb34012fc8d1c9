"""One file for each library that is compared: the same work, each in the best way that library has."""
