"""Calls of the service without HTTP: sign-ins, webhook events, and the stored facts of people."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.domain.account import SignedIn
from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sponsorship_event import EventOutcome
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Action, Hook
from sponsorsync.sandbox.people import Sponsorship
from sponsorsync.settings import Settings
from sponsorsync.web.services import Services
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE, Clock, Service

# GitHub's ids of the simulated people, by role.
MONTHLY, ONE_TIME, PRIVATE, FORMER = 48_210_377, 61_904_882, 73_355_190, 29_871_456
STRANGER, MEMBER, ORG = 112_493_071, 90_126_733, 17_562_948
SECRET = "a-secret-shared-with-github"
ADMIN = Decision("admin", "helped with the release")


@dataclass
class UseCases:
    """The connected parts of a service, and its simulated GitHub."""

    services: Services
    github: SimulatedGitHub
    clock: Clock

    async def sign_in(self, login: str = "monthly", *, replaces: str | None = None) -> SignedIn:
        """Performs a whole sign-in at the simulated GitHub."""
        attempt = self.services.sign_in.start(login_hint=login)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.github.app)) as browser:
            redirect = await browser.get(attempt.url)
        [code] = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
        return await self.services.sign_in.finish(
            code=code, code_verifier=attempt.code_verifier, replaces=replaces
        )

    async def receive(
        self,
        action: Action,
        sponsorship: Sponsorship,
        **more: Any,  # noqa: ANN401 - those of Hook.event
    ) -> EventOutcome:
        """Passes a webhook event about a sponsorship to the service; returns the outcome."""
        hook = Hook(url=ORIGIN, secret=SECRET, base_url=GITHUB_URL)
        delivery = hook.event(action, sponsorship, **more)
        return await self.services.webhooks.receive(
            delivery.body,
            event=delivery.event,
            delivery=delivery.number,
            signature=delivery.headers(SECRET)["X-Hub-Signature-256"],
        )

    async def find_facts(
        self, person_id: int = MONTHLY, sponsorable: str = SPONSORABLE
    ) -> EntitlementFacts | None:
        """Returns the stored facts of a person, if any."""
        account = await self.services.people.load_account(person_id)
        return account.entitlements[sponsorable].facts

    async def load_facts(
        self, person_id: int = MONTHLY, sponsorable: str = SPONSORABLE
    ) -> EntitlementFacts:
        """Returns the stored facts of a person; fails if there are none."""
        facts = await self.find_facts(person_id, sponsorable)
        assert facts is not None
        return facts

    async def load_profile(self, person_id: int = MONTHLY) -> Profile | None:
        """Returns the stored profile of a person, if any."""
        return (await self.services.people.load_account(person_id)).profile


def create_hook(service: Service, *, secret: str = SECRET) -> Hook:
    """Returns a webhook of the simulated GitHub that calls a service."""
    return Hook(
        url=f"{ORIGIN}/webhooks/github",
        secret=secret,
        base_url=GITHUB_URL,
        transport=httpx.ASGITransport(service.app),
    )


@asynccontextmanager
async def open_services(
    settings: Settings, transport: httpx.AsyncBaseTransport, clock: Clock
) -> AsyncIterator[Services]:
    """Runs a service that has a webhook secret; yields its connected parts."""
    clock.now = clock.now.replace(microsecond=0)  # Redis stores whole seconds
    settings = settings.model_copy(update={"webhook_secret": SecretStr(SECRET)})
    app = create_app(settings, github_transport=transport, clock=clock)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield state["services"]


def find_sponsorship(github: SimulatedGitHub, login: str = "monthly") -> Sponsorship:
    """Returns the only sponsorship that a sponsor gives."""
    [sponsorship] = github.people.sponsorships_of(github.people.get(login))
    return sponsorship
