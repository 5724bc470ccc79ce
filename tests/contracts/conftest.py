"""Fixtures that run each test against the simulated GitHub, then the simulated Patreon."""

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.contracts.peers import GitHubPeer, PatreonPeer, Peer
from tests.support.script import Script


@pytest.fixture(params=["github", "patreon"])
def simulation(request: pytest.FixtureRequest) -> SimulatedGitHub | SimulatedPatreon:
    """The simulated external service: GitHub or Patreon."""
    service: SimulatedGitHub | SimulatedPatreon = request.getfixturevalue(request.param)
    return service


@pytest.fixture
def way(simulation: SimulatedGitHub | SimulatedPatreon) -> Script:
    """A transport to the simulated service, for which a test can prepare answers."""
    return Script(httpx.ASGITransport(simulation.app))


@pytest.fixture
def peer(way: Script, request: pytest.FixtureRequest) -> Peer:
    """Our clients for the external service."""
    kinds: dict[str, type[Peer]] = {"github": GitHubPeer, "patreon": PatreonPeer}
    return kinds[request.node.callspec.params["simulation"]](way)


@pytest.fixture
def token(simulation: SimulatedGitHub | SimulatedPatreon) -> str:
    """A valid access token of the external service."""
    if isinstance(simulation, SimulatedGitHub):
        return simulation.tokens.issue(simulation.people.get_person("monthly"))
    return simulation.issue_token("active")
