"""The service without HTTP, and a transport to GitHub that tests can disturb."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.settings import Settings
from sponsorsync.web.services import Services
from tests.conftest import Clock
from tests.support.use_cases import UseCases, open_services


@dataclass
class Way(httpx.AsyncBaseTransport):
    """The transport from the service to the simulated GitHub.

    Attributes:
        answers: Answers to send instead of GitHub's, by path.
        blocked: Paths whose requests are never answered.
        meanwhile: Called once, between the next GraphQL answer of GitHub and its delivery.
    """

    rest: httpx.AsyncBaseTransport
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Forwards the request, unless a test has prepared something else for its path."""
        path = request.url.path.removeprefix("/api")
        if path in self.blocked:
            await asyncio.Event().wait()
        if path in self.answers:
            return self.answers[path]
        answer = await self.rest.handle_async_request(request)
        if path == "/graphql" and self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return answer


@pytest.fixture
def way(github: SimulatedGitHub) -> Way:
    """A transport to GitHub that disturbs nothing yet."""
    return Way(httpx.ASGITransport(github.app))


@pytest.fixture
def overrides() -> dict[str, object]:
    """Settings that differ from the defaults; a test may replace this fixture."""
    return {}


@pytest.fixture
def with_maintainers_token(
    maintainer_settings: dict[str, object], overrides: dict[str, object]
) -> None:
    """Gives the service the maintainer's token, so that it can reconcile."""
    overrides |= maintainer_settings


@pytest.fixture
async def services(
    settings: Settings, overrides: dict[str, object], way: Way, clock: Clock
) -> AsyncIterator[Services]:
    """The parts of the running service, connected as in production."""
    defaults = {"github_timeout_s": 30.0, "one_time_days": 31}
    settings = settings.model_copy(update={**defaults, **overrides})
    async with open_services(settings, way, clock) as opened:
        yield opened


@pytest.fixture
def use_cases(services: Services, github: SimulatedGitHub, clock: Clock) -> UseCases:
    """The use cases of the service."""
    return UseCases(services, github, clock)
