"""The length of random tests: short in `make test`, long in `make soak`."""

from __future__ import annotations

import os

_SCALE = float(os.environ.get("SPONSORSYNC_TEST_SCALE", "1"))


def scale(count: int) -> int:
    """Returns how many examples, rounds or seeds a test takes that by default takes `count`."""
    return max(1, round(count * _SCALE))
