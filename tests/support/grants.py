"""Grants and facts for tests, and a class that saves and loads them on a pair of servers."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import cast

from redis.asyncio import Redis

from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import (
    EntitlementFacts,
    EntitlementPolicy,
    EntitlementStatus,
    evaluate,
)
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.domain.sponsorship import Membership, Memberships
from sponsorsync.entitlements.organization_members import OrganizationMembers
from sponsorsync.entitlements.overrides import Overrides
from sponsorsync.github.client import GitHubClient
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.fields import parse_entitlement_facts
from sponsorsync.store.linked_accounts import LinkedAccountStore
from sponsorsync.store.organizations import OrganizationStore
from tests.support.sync import CATALOG, PERSON, SPONSORABLE, Pair
from tests.support.waiting import until

ORG, OTHER_ORG = 17_562_948, 17_562_955
ENTITLEMENT = keys.sponsorship(SPONSORABLE, PERSON)
INDEX = keys.sponsors(SPONSORABLE)
SEATS = keys.members(SPONSORABLE, ORG)
MEMBER = f"{SPONSORABLE}:{PERSON}"
POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))
ADMIN = Decision("admin", "helped with the release")
BATCH = 100
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
YESTERDAY, TOMORROW, NEXT_WEEK = NOW - DAY, NOW + DAY, NOW + 7 * DAY

OVERRIDE = Grant(
    source=EntitlementSource.OVERRIDE, since=YESTERDAY, until=None, actor="admin", reason="helped"
)
LINKED_ACCOUNTS = keys.linked_accounts(EntitlementSource.PATREON, SPONSORABLE)
PATRON = Grant(
    source=EntitlementSource.PATREON, since=YESTERDAY, until=NEXT_WEEK, cents=300, account_id="4711"
)
MEMBERSHIP = Grant(
    source=EntitlementSource.ORGANIZATION,
    since=YESTERDAY,
    until=NEXT_WEEK,
    cents=10_000,
    organization_id=ORG,
    organization="sponsoring-org",
    member_until=NEXT_WEEK,
)
NO_SPONSOR = EntitlementFacts(sponsorable=SPONSORABLE, checked_at=NOW)
SPONSOR = replace(
    NO_SPONSOR, source=EntitlementSource.SPONSORSHIP, tier_cents=1000, since=YESTERDAY
)
ORG_FIELD = f"{SPONSORABLE}:{ORG}"
NEWCOMER_FIELD = f"{ORG_FIELD}:{PERSON}"
ORG_ENTITLEMENT = keys.sponsorship(SPONSORABLE, ORG)


@dataclass
class Desk:
    """Changes and loads entitlements on a pair of servers, without logins."""

    pair: Pair

    @property
    def entitlements(self) -> EntitlementStore:
        """The store of entitlements on local."""
        return EntitlementStore(
            self.pair.local_store,
            self.pair.people,
            catalog=CATALOG,
            fetcher=self.pair.engine.hydrator,
        )

    @property
    def overrides(self) -> Overrides:
        """The use case of an administrator's overrides."""
        return Overrides(
            self.entitlements,
            cast("GitHubClient", None),  # only lookups by login use it
            token=None,
            policy=POLICY,
            clock=lambda: datetime.now(UTC),
        )

    @property
    def members(self) -> OrganizationMembers:
        """The use case of organizations' members."""
        policy = replace(POLICY, entitles_members=True)
        organizations = OrganizationStore(self.pair.local_store)
        return OrganizationMembers(
            self.entitlements, organizations, policy=policy, clock=lambda: datetime.now(UTC)
        )

    async def find_patron(self, account_id: str) -> int | None:
        """Returns the id of the person who linked a Patreon account."""
        linked_accounts = LinkedAccountStore(self.pair.local_store)
        return await linked_accounts.find_person(EntitlementSource.PATREON, SPONSORABLE, account_id)

    async def save(
        self, facts: EntitlementFacts, person_id: int = PERSON, *, by: str = "test"
    ) -> None:
        """Replaces a person's stored facts."""
        await self.entitlements.change(SPONSORABLE, person_id, lambda _: facts, by=by)

    async def save_grants(self, *grants: Grant, person_id: int = PERSON) -> None:
        """Replaces a person's facts by grants without a sponsorship."""
        await self.save(replace(NO_SPONSOR, grants=grants), person_id)

    async def save_member(self) -> None:
        """Saves an organization that sponsors, and a person who is its member."""
        await self.save(SPONSOR, ORG)
        await self.save_grants(MEMBERSHIP)

    async def apply_webhook(self, facts: EntitlementFacts, person_id: int = PERSON) -> None:
        """Saves facts from GitHub and keeps stored grants, as a webhook does."""

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            return replace(facts, grants=stored.grants if stored else ())

        await self.entitlements.change(SPONSORABLE, person_id, decide, by="webhook")

    async def evaluate_memberships(
        self, stored: EntitlementFacts | None, memberships: Memberships
    ) -> EntitlementFacts:
        """Returns the person's facts after a login at which GitHub shows `memberships`."""
        facts = await self.members.record_memberships(
            PERSON, SPONSORABLE, stored, memberships, asked_at=datetime.now(UTC)
        )
        assert facts is not None
        return facts

    async def load(self, person_id: int = PERSON) -> EntitlementFacts | None:
        """Returns a person's facts on local, fetched from durable if necessary."""
        return (await self.entitlements.load(SPONSORABLE, [person_id]))[person_id].facts

    async def load_facts(self, person_id: int = PERSON) -> EntitlementFacts:
        """Returns a person's facts; fails if there are none."""
        facts = await self.load(person_id)
        assert facts is not None
        return facts

    async def load_tiers(self, person_id: int = PERSON) -> list[int | None]:
        """Returns the cents of each grant."""
        return [grant.cents for grant in (await self.load_facts(person_id)).grants]

    async def load_ends(self) -> list[datetime | None]:
        """Returns the end of each grant."""
        return [grant.until for grant in (await self.load_facts()).grants]

    async def load_status(self) -> EntitlementStatus:
        """Returns the status of the entitlement."""
        facts = await self.load()
        return evaluate(SPONSORABLE, facts, policy=POLICY, now=datetime.now(UTC)).status

    async def load_sources(self, person_id: int = PERSON) -> set[EntitlementSource]:
        """Returns the sources of all grants, also of those that have ended."""
        facts = await self.load(person_id)
        return {grant.source for grant in facts.grants} if facts else set()

    async def load_audit(self) -> list[tuple[str, str]]:
        """Returns the kind and the cause of each entry of the audit trail, the oldest first."""
        entries = await AuditTrail(self.pair.local_store).load(before=None, limit=BATCH)
        return [(entry.what, entry.by) for entry in reversed(entries)]

    async def load_changed_organizations(self) -> set[str]:
        """Returns the fields of organizations and members that wait to be recomputed."""
        return {str(field) for field in await self.pair.local.hkeys(keys.ORGANIZATIONS)}

    async def lose_local(self, facts: EntitlementFacts) -> None:
        """Saves facts that afterwards only durable has, and cuts the connection to durable."""
        await self.save(facts)
        await self.pair.relay()
        await self.pair.local.flushall()
        self.pair.cut()

    async def load_when_back(self) -> EntitlementFacts:
        """Waits until durable answers again; returns the facts."""
        await until(self.load)
        return await self.load_facts()

    async def are_equal(self) -> bool:
        """Returns whether both servers have the same entitlement, and matching indexes."""
        local, durable = self.pair.local, self.pair.durable
        return bool(
            await local.hgetall(ENTITLEMENT) == await durable.hgetall(ENTITLEMENT)
            and await local.sismember(INDEX, str(PERSON))
            == await durable.sismember(INDEX, str(PERSON))
            and (await self.pair.engine.verifier.run()).agrees
        )


def belong_to(*organizations: int, is_complete: bool = True) -> Memberships:
    """Returns memberships in organizations whose sponsorships GitHub does not show."""
    return Memberships(
        [Membership(number, f"org-{number}", ()) for number in organizations],
        is_complete=is_complete,
    )


async def load_facts_on(client: Redis) -> EntitlementFacts:
    """Returns the parsed facts on a server; equal grants may be stored as different JSON."""
    fields = await client.hgetall(ENTITLEMENT)
    raw = {str(name).encode(): str(value).encode() for name, value in fields.items()}
    facts = parse_entitlement_facts(SPONSORABLE, raw)
    assert facts is not None
    return facts


async def is_reachable(store: RedisStore) -> bool:
    """Returns whether a server answers."""
    with suppress(StoreUnavailableError):
        return bool(await store.run("PING"))
    return False


async def load_second(client: Redis) -> int:
    """Returns the time of a server in Unix seconds."""
    second, _ = await client.time()
    return int(second)
