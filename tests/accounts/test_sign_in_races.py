"""Sign-ins beside other changes of the same entitlement: no newer fact is overwritten."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.domain.audit import Decision
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.people import Tier
from sponsorsync.store import keys
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from sponsorsync.domain.account import Account, SignedIn
    from sponsorsync.domain.entitlement import EntitlementFacts
    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.settings import Settings
    from sponsorsync.store.people import PeopleStore
    from sponsorsync.web.services import Services
    from tests.conftest import Clock

MONTHLY = 48_210_377
SECRET = "a-secret-shared-with-github"
ADMIN = Decision("admin", "helped with the release")


@dataclass
class Desk:
    """The service, and what others do between the loading and the saving of a login.

    Attributes:
        meanwhile: What happens there, each once, before the next try; `always` at each.
        tries: How often a login loaded what is known.
    """

    services: Services
    people: PeopleStore
    github: SimulatedGitHub
    local: Redis
    meanwhile: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    always: Callable[[], Awaitable[object]] | None = None
    tries: int = 0

    async def sign_in(self, login: str = "monthly") -> SignedIn:
        """Goes by GitHub's page and comes back with a code."""
        attempt = self.services.sign_in.start(login_hint=login)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.github.app)) as browser:
            redirect = await browser.get(attempt.url)
        [code] = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
        return await self.services.sign_in.finish(
            code=code, code_verifier=attempt.code_verifier, replaces=None
        )

    async def facts(self) -> EntitlementFacts:
        """Returns what is kept of the monthly sponsor."""
        account = await self.services.people.load_account(MONTHLY)
        facts = account.entitlements[SPONSORABLE].facts
        assert facts is not None
        return facts

    async def let_in(self) -> None:
        """An administrator entitles the monthly sponsor by hand."""
        await self.services.overrides.put(MONTHLY, SPONSORABLE, ADMIN, cents=500, until=None)

    async def tell_of_another_tier(self) -> None:
        """The webhook tells that they give more from now on."""
        [sponsorship] = self.github.people.sponsorships_of(self.github.people.get("monthly"))
        sponsorship.tier = Tier(5000)
        hook = Hook(url=ORIGIN, secret=SECRET, base_url=GITHUB_URL)
        delivery = hook.tell("tier_changed", sponsorship, former_cents=1000)
        await self.services.webhooks.receive(
            delivery.body,
            event=delivery.event,
            delivery=delivery.number,
            signature=delivery.headers(SECRET)["X-Hub-Signature-256"],
        )

    async def lay_between(self, person_id: int) -> Account:
        """Loads as a login does, and lets others act before it is told."""
        self.tries += 1
        account = await self.people.load_account_for_login(person_id)
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        if self.always is not None:
            await self.always()
        return account


@dataclass
class SlowLoad:
    """The people that a login knows: all is theirs, but for what lies between load and save."""

    people: PeopleStore
    desk: Desk

    async def load_account_for_login(self, person_id: int) -> Account:
        """Loads, and lets others act."""
        return await self.desk.lay_between(person_id)

    async def save_login(self, *arguments: Any, **more: Any) -> str | None:  # noqa: ANN401 - its own
        """Saves."""
        return await self.people.save_login(*arguments, **more)


@asynccontextmanager
async def open_desk(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Desk]:
    """Runs the service."""
    app = create_app(settings, github_transport=httpx.ASGITransport(github.app), clock=clock)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        services = state["services"]
        desk = Desk(services, services.people, github, local)
        services.sign_in._people = SlowLoad(services.people, desk)
        yield desk


@pytest.fixture
async def desk(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Desk]:
    """The service with a webhook."""
    clock.now = clock.now.replace(microsecond=0)  # Redis keeps whole seconds
    settings = settings.model_copy(update={"webhook_secret": SecretStr(SECRET)})
    async with open_desk(settings, github, local, clock) as opened:
        yield opened


async def test_what_an_administrator_decides_meanwhile_stays(desk: Desk) -> None:
    """The login is judged again on it, and both are there."""
    desk.meanwhile = [desk.let_in]
    await desk.sign_in()

    facts = await desk.facts()
    assert (facts.source, facts.tier_cents) == (EntitlementSource.SPONSORSHIP, 1000)
    assert [(each.source, each.cents) for each in facts.grants] == [
        (EntitlementSource.OVERRIDE, 500)
    ]
    assert desk.tries == 2


async def test_what_an_administrator_takes_back_meanwhile_is_gone(desk: Desk) -> None:
    """The login has read it, and does not bring it back."""
    await desk.let_in()
    desk.meanwhile = [
        lambda: desk.services.overrides.remove(MONTHLY, SPONSORABLE, ADMIN),
    ]
    await desk.sign_in()

    assert (await desk.facts()).grants == ()
    assert desk.tries == 2


async def test_what_the_webhook_tells_meanwhile_is_what_the_login_builds_on(desk: Desk) -> None:
    """An end that only it tells, above all, would be lost otherwise."""
    await desk.sign_in()
    desk.tries = 0
    [sponsorship] = desk.github.people.sponsorships_of(desk.github.people.get("monthly"))
    ends = desk.services.clock().replace(microsecond=0)

    async def announce_the_end() -> None:
        hook = Hook(url=ORIGIN, secret=SECRET, base_url=GITHUB_URL)
        delivery = hook.tell("pending_cancellation", sponsorship, effective_date=ends)
        await desk.services.webhooks.receive(
            delivery.body,
            event=delivery.event,
            delivery=delivery.number,
            signature=delivery.headers(SECRET)["X-Hub-Signature-256"],
        )

    ends = ends.replace(year=ends.year + 1)
    desk.meanwhile = [announce_the_end]
    await desk.sign_in()

    assert (await desk.facts()).valid_until == ends
    assert desk.tries == 2


async def test_two_logins_of_one_person_at_once_open_two_sessions(desk: Desk) -> None:
    """In two browsers; neither ends the other, nor loses what is known."""
    await desk.let_in()
    both = await asyncio.gather(desk.sign_in(), desk.sign_in())

    tokens = {each.session_token for each in both}
    assert len(tokens) == 2
    holders = [await desk.services.people.load_session(token) for token in tokens]
    assert holders == [MONTHLY, MONTHLY]
    facts = await desk.facts()
    assert facts.source is EntitlementSource.SPONSORSHIP
    assert [each.source for each in facts.grants] == [EntitlementSource.OVERRIDE]


async def test_a_login_beside_one_that_others_keep_changing_gives_up(desk: Desk) -> None:
    """Nobody is signed in, and of the login nothing is kept."""
    desk.always = desk.let_in
    with pytest.raises(StoreUnavailableError, match="keeps changing"):
        await desk.sign_in()

    assert desk.tries == 5
    assert await desk.local.exists(keys.user_details(MONTHLY), keys.sessions(MONTHLY)) == 0
    assert [key async for key in desk.local.scan_iter("sponsorsync:session:*")] == []
    entries = await desk.services.audit.load(before=None, limit=100)
    assert {entry.by for entry in entries} == {"override"}
