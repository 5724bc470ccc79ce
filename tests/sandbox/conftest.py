"""The simulated GitHub and its clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from tests.conftest import Clock
from tests.support.simulated_github import (
    CALLBACK,
    URL,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def clock() -> Clock:
    """A fixed day in November."""
    return Clock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
def github(clock: Clock) -> SimulatedGitHub:
    """The simulation with its people by role."""
    return SimulatedGitHub(
        client_id="the-client",
        client_secret="the-secret",
        redirect_uris=[CALLBACK],
        url=URL,
        now=clock,
    )


@pytest.fixture
async def http(github: SimulatedGitHub) -> AsyncIterator[httpx.AsyncClient]:
    """Both the browser and the service; redirects are not followed."""
    transport = httpx.ASGITransport(app=github.app)
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client
