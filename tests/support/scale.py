"""The length of random tests: short in `make test`, long in `make soak`."""

import os

_SCALE = float(os.environ.get("SPONSORSYNC_TEST_SCALE", "1"))


def scale(count: int) -> int:
    """Returns a number of examples, rounds or seeds, multiplied by SPONSORSYNC_TEST_SCALE."""
    return max(1, round(count * _SCALE))
