"""The transport to the simulated Patreon."""

import httpx
import pytest

from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.support.script import Script


@pytest.fixture
def way(patreon: SimulatedPatreon) -> Script:
    """The transport to the simulated Patreon, with answers of a test's own before it."""
    return Script(httpx.ASGITransport(patreon.app))
