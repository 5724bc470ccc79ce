"""The service with a sponsoring organization whose members are entitled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from redis.asyncio import Redis

from sponsorsync.domain.entitlement import Entitlement, evaluate
from sponsorsync.entitlements.organization_members import OrganizationMembers
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Action
from sponsorsync.sandbox.people import Organization, Sponsorship, Tier
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.organizations import OrganizationStore
from tests.conftest import SPONSORABLE, Clock
from tests.support.use_cases import MEMBER, ORG, UseCases, find_sponsorship, open_services

NEVER_S = 3600.0


@dataclass
class Replica(UseCases):
    """The service, connected as in production; its loop for members does not run in a test.

    Attributes:
        members: Recomputes members when a test calls it.
    """

    members: OrganizationMembers
    entitlements: EntitlementStore
    organizations: OrganizationStore
    local: Redis

    @property
    def organization(self) -> Organization:
        """The organization that sponsors the maintainer."""
        return cast("Organization", self.github.people.by_id(ORG))

    @property
    def sponsorship(self) -> Sponsorship:
        """The organization's sponsorship."""
        return find_sponsorship(self.github, self.organization.login)

    def add_members(self, *logins: str) -> list[int]:
        """Adds people to the organization; returns their account numbers."""
        people = [self.github.people.add_person(login) for login in logins]
        self.organization.members += people
        return [person.database_id for person in people]

    async def report(self, action: Action, **more: Any) -> None:  # noqa: ANN401 - tell's own
        """Sends an event of the organization's sponsorship to the webhook."""
        await self.receive(action, self.sponsorship, **more)

    async def entitle_member(self) -> None:
        """Entitles one member, with no recomputation of members left to do."""
        await self.report("created")
        await self.sign_in("org-member")
        await self.members.recompute_changed()

    async def change_tier(self) -> None:
        """Raises the organization's tier from 10,000 to 50,000 cents, and reports the change."""
        self.sponsorship.tier = Tier(50_000)
        await self.report("tier_changed", former_cents=10_000)

    async def entitlement(self, person_id: int = MEMBER) -> Entitlement:
        """Returns the service's answer about a person."""
        facts = await self.find_facts(person_id)
        return evaluate(SPONSORABLE, facts, policy=self.services.policy, now=self.clock())

    async def load_seats(self) -> set[int]:
        """Returns the ids of the members with a seat."""
        found = await self.local.zrange(keys.members(SPONSORABLE, ORG), 0, -1)
        return {int(cast("str", each)) for each in found}

    async def load_notes(self) -> dict[str, str]:
        """Returns the notes of organizations whose members have to be recomputed."""
        found = await self.local.hgetall(keys.ORGANIZATIONS)
        return {str(field): str(note) for field, note in found.items()}


@pytest.fixture
def every_s() -> float:
    """The pause of the service's loop for members; a test may replace this fixture."""
    return NEVER_S


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that differ from the defaults; a test may replace this fixture."""
    return {}


@pytest.fixture
def member_settings(settings: Settings, overrides: dict[str, Any]) -> Settings:
    """Settings of a service that entitles members and has no maintainer's token."""
    return settings.model_copy(update={"org_entitlement": "members"} | overrides)


@pytest.fixture(autouse=True)
def _pace(every_s: float, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = clock.now.replace(microsecond=0)  # Redis stores whole seconds
    name = "sponsorsync.entitlements.organization_members._RECOMPUTE_EVERY_S"
    monkeypatch.setattr(name, every_s)


@asynccontextmanager
async def open_replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """Runs the service, with the sync engine if the settings have a durable Redis."""
    async with open_services(settings, httpx.ASGITransport(github.app), clock) as services:
        entitlements = services.overrides.entitlements
        organizations = OrganizationStore(services.local)
        members = OrganizationMembers(
            entitlements, organizations, policy=services.policy, clock=clock
        )
        yield Replica(services, github, clock, members, entitlements, organizations, local)


@pytest.fixture
async def replica(
    member_settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """The service with the local Redis only."""
    async with open_replica(member_settings, github, local, clock) as opened:
        yield opened
