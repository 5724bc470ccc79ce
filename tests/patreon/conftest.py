"""What the tests of our side of Patreon share."""

from __future__ import annotations

import httpx
import pytest

from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.support.script import Script

URL = "http://patreon.test"
CALLBACK = "http://sponsorsync.test/patreon/callback"


@pytest.fixture
def patreon() -> SimulatedPatreon:
    """A Patreon of our own."""
    return SimulatedPatreon(
        client_id="client", client_secret="secret", redirect_uri=CALLBACK, url=URL
    )


@pytest.fixture
def way(patreon: SimulatedPatreon) -> Script:
    """The way to the simulated Patreon."""
    return Script(httpx.ASGITransport(patreon.app))
