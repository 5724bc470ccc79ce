"""The speed of the sync engine, compared with the original scripts and the limits: `make bench`.

In each round all contenders move the same people between the same two servers, one after the
other, so that other load on the machine affects all of them. No test asserts a figure.
"""
