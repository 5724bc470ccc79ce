"""The length of random tests: short in `make test`, long in `make soak`."""

import os

_SCALE = float(os.environ.get("SPONSORSYNC_TEST_SCALE", "1"))


def scale(count: int) -> int:
    """Returns the scaled number of a test's examples, rounds or seeds."""
    return max(1, round(count * _SCALE))
