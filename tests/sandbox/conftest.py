"""The simulated GitHub, its clock and an HTTP client of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from tests.conftest import Clock
from tests.support.simulated_github import CALLBACK, URL, GitHubClient


@pytest.fixture
def clock() -> Clock:
    """A fixed day in November."""
    return Clock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
async def http(clock: Clock) -> AsyncIterator[GitHubClient]:
    """An HTTP client of the simulated GitHub with its usual people."""
    github = SimulatedGitHub(
        client_id="the-client",
        client_secret="the-secret",
        redirect_uris=[CALLBACK],
        url=URL,
        now=clock,
    )
    async with GitHubClient(github) as client:
        yield client
