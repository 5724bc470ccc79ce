"""Fixtures of the tests of our GitHub client."""

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from tests.support.script import Script


@pytest.fixture
def way(github: SimulatedGitHub) -> Script:
    """A transport to the simulated GitHub that can be scripted."""
    return Script(httpx.ASGITransport(github.app))
