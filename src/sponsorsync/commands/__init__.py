"""One module for each command, and the start and output that they share."""
