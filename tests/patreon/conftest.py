"""The transport to the simulated Patreon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.script import Script

if TYPE_CHECKING:
    from sponsorsync.sandbox.patreon import SimulatedPatreon


@pytest.fixture
def way(patreon: SimulatedPatreon) -> Script:
    """The transport to the simulated Patreon, with answers of a test's own before it."""
    return Script(httpx.ASGITransport(patreon.app))
