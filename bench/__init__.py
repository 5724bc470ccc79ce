"""Measures the sync engine beside the scripts that it replaced and beside its limits: `make bench`.

A limit is the fastest way we know to do the same work without versions. The contenders take turns:
in each round each of them copies the same people between the same two servers, so that other load
on the machine affects all of them. No test asserts a figure.
"""
