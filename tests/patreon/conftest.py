"""The transport to the simulated Patreon."""

import httpx
import pytest

from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.support.script import Script


@pytest.fixture
def way(patreon: SimulatedPatreon) -> Script:
    """A transport to the simulated Patreon; a test may set answers that are sent instead."""
    return Script(httpx.ASGITransport(patreon.app))
