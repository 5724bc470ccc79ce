"""Each test of a contract runs against the simulated GitHub and the simulated Patreon."""

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.contracts.peers import GitHubPeer, PatreonPeer, Peer
from tests.support.script import Script


@pytest.fixture(params=["github", "patreon"])
def simulation(request: pytest.FixtureRequest) -> SimulatedGitHub | SimulatedPatreon:
    """The simulated service."""
    service: SimulatedGitHub | SimulatedPatreon = request.getfixturevalue(request.param)
    return service


@pytest.fixture
def way(simulation: SimulatedGitHub | SimulatedPatreon) -> Script:
    """A transport to the service that can be scripted."""
    return Script(httpx.ASGITransport(simulation.app))


@pytest.fixture
def peer(way: Script, request: pytest.FixtureRequest) -> Peer:
    """Our clients of the service."""
    kinds: dict[str, type[Peer]] = {"github": GitHubPeer, "patreon": PatreonPeer}
    return kinds[request.node.callspec.params["simulation"]](way)


@pytest.fixture
def token(simulation: SimulatedGitHub | SimulatedPatreon) -> str:
    """A valid token of the service."""
    if isinstance(simulation, SimulatedGitHub):
        return simulation.tokens.issue(simulation.people.get_person("monthly"))
    return simulation.issue_token("active")
