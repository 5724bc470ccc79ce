"""Fixtures of all tests: real Valkeys, a simulated GitHub, and the service between them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import hypothesis
import pytest
import pytest_asyncio
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from sponsorsync.app import create_app
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.sandbox.valkey import EmbeddedValkey, run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store.connect import RedisStore, create_store
from tests.support.scale import scale

# No deadline, since each example is slow on a busy machine.
hypothesis.settings.register_profile("sponsorsync", max_examples=scale(100), deadline=None)
hypothesis.settings.load_profile("sponsorsync")

# structlog's default draws a traceback with all local variables (seconds for each), and colours.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

ORIGIN = "http://sponsorsync.test"
GITHUB_URL = "http://github.test"
PATREON_URL = "http://patreon.test"
SPONSORABLE = "maintainer"
UNREACHABLE = SecretStr("redis://127.0.0.1:1/0")
PATREON_SETTINGS = {
    "patreon_url": PATREON_URL,
    "patreon_client_id": "patreon-client",
    "patreon_secret": SecretStr("the-secret-of-the-patreon-client"),
    "patreon_campaign": "1234567",
}
"""Settings that connect a service to the fixture `patreon`; without them it has no Patreon."""


@dataclass
class Clock:
    """A clock whose time the tests set."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        """Returns the current time."""
        return self.now

    def advance(self, **by: float) -> None:
        """Advances the time by the arguments of a timedelta, such as `days` or `minutes`."""
        self.now += timedelta(**by)


class TickingClock(Clock):
    """A clock that advances at each reading, so that each fact is newer than the stored one."""

    def __call__(self) -> datetime:
        """Returns another time at each call."""
        self.advance(seconds=1)
        return self.now


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def local_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """One Valkey for each test process, as the application's Redis."""
    async with run_valkey(tmp_path_factory.mktemp("local"), name="local") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def durable_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """One Valkey for each test process, as the durable Redis."""
    async with run_valkey(tmp_path_factory.mktemp("durable"), name="durable") as server:
        yield server


@pytest.fixture
async def durable(durable_server: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of the durable Redis, which is empty at the start."""
    async with Redis.from_url(durable_server.url, decode_responses=True) as client:
        await client.flushall()
        yield client


@pytest.fixture
def durable_url(durable_server: EmbeddedValkey, durable: Redis) -> SecretStr:
    """The address of the durable Redis, which is empty at the start."""
    assert durable is not None
    return SecretStr(durable_server.url)


@pytest.fixture
async def local(local_server: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of the application's Redis, which is empty at the start."""
    async with Redis.from_url(local_server.url, decode_responses=True) as client:
        await client.flushall()
        await client.config_resetstat()
        yield client


@pytest.fixture
async def local_store(local_server: EmbeddedValkey, local: Redis) -> AsyncIterator[RedisStore]:
    """The service's own connection to the application's Redis."""
    assert await local.ping()
    store = create_store(SecretStr(local_server.url), name="local", pool_size=4)
    yield store
    await store.aclose()


@pytest.fixture
def clock() -> Clock:
    """The clock of the service, of GitHub and of Patreon."""
    return Clock()


@pytest.fixture
def github(clock: Clock) -> SimulatedGitHub:
    """The simulated GitHub."""
    return create_github(clock)


def create_github(clock: Clock, *, origin: str = ORIGIN) -> SimulatedGitHub:
    """Returns a simulated GitHub for a service at this address."""
    return SimulatedGitHub(
        client_id="client",
        client_secret="secret",
        redirect_uris=[f"{origin}/oauth2/callback"],
        maintainer=SPONSORABLE,
        url=GITHUB_URL,
        now=clock,
    )


@pytest.fixture
def maintainer_settings(github: SimulatedGitHub) -> dict[str, Any]:
    """The settings with a maintainer's token, for a service that reconciles only on request."""
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    return {"maintainer_token": SecretStr(token), "reconcile_hours": 0}


@pytest.fixture
def patreon(clock: Clock) -> SimulatedPatreon:
    """The simulated Patreon, which a service with PATREON_SETTINGS uses."""
    return SimulatedPatreon(
        client_id="patreon-client",
        client_secret="the-secret-of-the-patreon-client",
        redirect_uri=f"{ORIGIN}/patreon/callback",
        url=PATREON_URL,
        campaign_id="1234567",
        now=clock,
    )


@pytest.fixture
def settings(local_server: EmbeddedValkey, local: Redis, tmp_path: Path) -> Settings:
    """Settings of a service without a durable Redis, independent of environment and files."""
    assert local is not None  # the fixture has emptied it
    return Settings.model_construct(
        public_url=ORIGIN,
        data_dir=tmp_path,
        redis_url=SecretStr(local_server.url),
        github_url=GITHUB_URL,
        github_api_url=f"{GITHUB_URL}/api",
        github_client_id="client",
        github_secret=SecretStr("secret"),
        sponsorables=(SPONSORABLE,),
    )


class Browser(httpx.AsyncClient):
    """A browser with cookies for the service, GitHub and Patreon; it follows no redirects."""

    async def sign_in(self, login: str, *, path: str = "/login", **headers: str) -> httpx.Response:
        """Signs in at GitHub; returns the answer of the service's callback."""
        return await self.get(await self.go_to_github(login, path=path), headers=headers)

    async def go_to_github(self, login: str, *, path: str = "/login", **params: str) -> str:
        """Starts a sign-in at GitHub; returns the address of the callback."""
        to_github = await self.get(path, params={"login": login, **params})
        return (await self.get(to_github.headers["location"])).headers["location"]

    async def go_to_patreon(self, role: str) -> str:
        """Starts to link an account of Patreon; returns the address of the callback."""
        to_patreon = await self.get("/patreon/link")
        back = await self.get(f"{to_patreon.headers['location']}&patron={role}")
        return back.headers["location"]

    async def link_patreon(self, role: str) -> httpx.Response:
        """Links an account of Patreon; returns the answer of the service's callback."""
        return await self.get(await self.go_to_patreon(role))

    async def load_entitlement(self) -> dict[str, Any]:
        """Returns the signed-in person's entitlement, of which there must be one."""
        [entitlement] = (await self.get("/me")).json()["entitlements"]
        return dict(entitlement)


@dataclass
class Service:
    """A running service with its simulated GitHub and Patreon; it opens browsers."""

    app: ASGIApp
    github: SimulatedGitHub
    patreon: SimulatedPatreon
    _stack: AsyncExitStack

    async def open_browser(self, origin: str = ORIGIN) -> Browser:
        """Returns a browser without cookies; it is closed with the service."""
        browser = Browser(
            base_url=origin,
            mounts={
                f"all://{httpx.URL(GITHUB_URL).host}": httpx.ASGITransport(self.github.app),
                f"all://{httpx.URL(PATREON_URL).host}": httpx.ASGITransport(self.patreon.app),
                "all://": httpx.ASGITransport(self.app),
            },
        )
        return await self._stack.enter_async_context(browser)

    async def sign_in(self, login: str, **options: str) -> Browser:
        """Returns a browser in which this person has signed in."""
        browser = await self.open_browser()
        await browser.sign_in(login, **options)
        return browser


RunService: TypeAlias = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def run_service(
    settings: Settings, github: SimulatedGitHub, patreon: SimulatedPatreon, clock: Clock
) -> RunService:
    """Returns a context manager that runs the service with changed settings."""

    @asynccontextmanager
    async def run(
        *, gears_folder: Path | None = None, **overrides: object
    ) -> AsyncIterator[Service]:
        async with AsyncExitStack() as stack:
            app = create_app(
                settings.model_copy(update=overrides),
                github_transport=httpx.ASGITransport(github.app),
                link_transport=httpx.ASGITransport(patreon.app),
                gears_folder=gears_folder,
                clock=clock,
            )
            # ASGITransport runs no lifespan: run it here, and hand its state to each request.
            state = await stack.enter_async_context(app.router.lifespan_context(app))
            browsers = await stack.enter_async_context(AsyncExitStack())
            yield Service(
                app=hand_state(app, state or {}), github=github, patreon=patreon, _stack=browsers
            )

    return run


RunBrowser: TypeAlias = Callable[..., AbstractAsyncContextManager[Browser]]


@pytest.fixture
def run_browser(run_service: RunService) -> RunBrowser:
    """Returns a context manager: a browser of a service with changed settings, maybe signed in."""

    @asynccontextmanager
    async def run(login: str | None = None, **overrides: object) -> AsyncIterator[Browser]:
        async with run_service(**overrides) as service:
            yield await (service.sign_in(login) if login else service.open_browser())

    return run


@pytest.fixture
async def service(run_service: RunService) -> AsyncIterator[Service]:
    """The service with the usual settings."""
    async with run_service() as running:
        yield running


@pytest.fixture
async def browser(service: Service) -> Browser:
    """A browser without a session."""
    return await service.open_browser()


@pytest.fixture
async def sponsor(browser: Browser) -> Browser:
    """A browser in which the monthly sponsor is signed in."""
    response = await browser.sign_in("monthly")
    assert response.status_code == 303
    return browser


def hand_state(app: ASGIApp, state: Mapping[str, Any]) -> ASGIApp:
    """Returns an app that adds the lifespan's state to each request, as a server does."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return call
