"""Entitlements by something else than one's own sponsorship, on a pair of servers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

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
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.entitlement_fields import parse_entitlement_facts
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.linked_accounts import LinkedAccountStore
from sponsorsync.store.organizations import OrganizationStore
from tests.support.sync import CATALOG, PERSON, SPONSORABLE, Pair
from tests.support.waiting import until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.github.client import GitHubClient
    from sponsorsync.store.connect import RedisStore
    from tests.support.proxy import TcpProxy

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
    """Changes entitlements of a pair without a login.

    Attributes:
        way: The connection to durable, where a test can cut it.
    """

    pair: Pair
    way: TcpProxy | None = None

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
        """The actions of an administrator."""
        return Overrides(
            self.entitlements,
            cast("GitHubClient", None),  # it is asked for logins only
            token=None,
            policy=POLICY,
            clock=lambda: datetime.now(UTC),
        )

    @property
    def members(self) -> OrganizationMembers:
        """The members of organizations."""
        policy = replace(POLICY, entitles_members=True)
        organizations = OrganizationStore(self.pair.local_store)
        return OrganizationMembers(
            self.entitlements, organizations, policy=policy, clock=lambda: datetime.now(UTC)
        )

    async def find_patron(self, account_id: str) -> int | None:
        """Returns the person that linked an account of Patreon's."""
        linked_accounts = LinkedAccountStore(self.pair.local_store)
        return await linked_accounts.find_person(EntitlementSource.PATREON, SPONSORABLE, account_id)

    async def save(
        self, facts: EntitlementFacts, person_id: int = PERSON, *, by: str = "test"
    ) -> None:
        """Saves facts in the place of the stored ones."""
        await self.entitlements.change(SPONSORABLE, person_id, lambda _: facts, by=by)

    async def save_grants(self, *grants: Grant, person_id: int = PERSON) -> None:
        """Saves grants of a person who is no sponsor."""
        await self.save(replace(NO_SPONSOR, grants=grants), person_id)

    async def save_member(self) -> None:
        """Saves an organization that sponsors, and its member."""
        await self.save(SPONSOR, ORG)
        await self.save_grants(MEMBERSHIP)

    async def apply_webhook(self, facts: EntitlementFacts, person_id: int = PERSON) -> None:
        """Saves facts of GitHub's as a webhook does: stored grants stay."""

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            return replace(facts, grants=stored.grants if stored else ())

        await self.entitlements.change(SPONSORABLE, person_id, decide, by="webhook")

    async def evaluate_memberships(
        self, stored: EntitlementFacts | None, memberships: Memberships
    ) -> EntitlementFacts:
        """Returns the facts after a login that shows these memberships."""
        facts = await self.members.record_memberships(
            PERSON, SPONSORABLE, stored, memberships, asked_at=datetime.now(UTC)
        )
        assert facts is not None
        return facts

    async def load(self, person_id: int = PERSON) -> EntitlementFacts | None:
        """Returns the facts."""
        return (await self.entitlements.load(SPONSORABLE, [person_id]))[person_id].facts

    async def load_tiers(self, person_id: int = PERSON) -> list[int | None]:
        """Returns the cents of each grant."""
        facts = await self.load(person_id)
        assert facts is not None
        return [grant.cents for grant in facts.grants]

    async def load_ends(self) -> list[datetime | None]:
        """Returns the end of each grant."""
        facts = await self.load()
        assert facts is not None
        return [grant.until for grant in facts.grants]

    async def load_status(self) -> EntitlementStatus:
        """Returns the answer."""
        facts = await self.load()
        return evaluate(SPONSORABLE, facts, policy=POLICY, now=datetime.now(UTC)).status

    async def load_sources(self, person_id: int = PERSON) -> set[EntitlementSource]:
        """Returns the sources of all grants, also of those that have ended."""
        facts = await self.load(person_id)
        return {grant.source for grant in facts.grants} if facts else set()

    async def load_audit(self) -> list[tuple[str, str]]:
        """Returns the events and their causes, the oldest first."""
        entries = await AuditTrail(self.pair.local_store).load(before=None, limit=BATCH)
        return [(entry.what, entry.by) for entry in reversed(entries)]

    async def load_changed_organizations(self) -> set[str]:
        """Returns the organizations, or members, that wait to be recomputed."""
        return {str(field) for field in await self.pair.local.hkeys(keys.ORGANIZATIONS)}

    async def lose_local(self, facts: EntitlementFacts) -> None:
        """Leaves facts on durable alone, and cuts the connection to it."""
        assert self.way is not None
        await self.save(facts)
        await self.pair.relay()
        await self.pair.local.flushall()
        self.way.cut()

    async def reconnect(self) -> None:
        """Restores the connection to durable, and relays."""
        assert self.way is not None
        self.way.flow()
        await self.pair.relay_when_back()

    async def load_when_back(self) -> EntitlementFacts | None:
        """Returns the facts as soon as durable can be asked again."""

        async def is_back() -> bool:
            return await self.load() is not None

        await until(is_back)
        return await self.load()

    async def dump(self, *names: str) -> dict[str, bytes | None]:
        """Returns keys of local for `restore`."""
        return {name: await self.pair.local.dump(name) for name in names}

    async def restore(self, dumps: dict[str, bytes | None]) -> None:
        """Makes keys of local older again, as a restart on an older file does."""
        for name, dump in dumps.items():
            await self.pair.local.restore(name, 0, dump, replace=True)  # type: ignore[arg-type]

    async def are_equal(self) -> bool:
        """Returns whether both servers have the same hash, and indexes that agree with it."""
        local, durable = self.pair.local, self.pair.durable
        return bool(
            await local.hgetall(ENTITLEMENT) == await durable.hgetall(ENTITLEMENT)
            and await local.sismember(INDEX, str(PERSON))
            == await durable.sismember(INDEX, str(PERSON))
            and (await self.pair.engine.verifier.run()).agrees
        )


def belong_to(*organizations: int, is_complete: bool = True) -> Memberships:
    """Returns what a member's login shows of organizations whose sponsorships are private."""
    return Memberships(
        [Membership(number, f"org-{number}", ()) for number in organizations],
        is_complete=is_complete,
    )


async def load_facts_on(client: Redis) -> EntitlementFacts | None:
    """Returns a server's facts, with the grants parsed: their text may differ."""
    fields = await client.hgetall(ENTITLEMENT)
    raw = {str(name).encode(): str(value).encode() for name, value in fields.items()}
    return parse_entitlement_facts(SPONSORABLE, raw)


async def is_reachable(store: RedisStore) -> bool:
    """Returns whether a server can be asked again after its connection was cut."""
    with suppress(StoreUnavailableError):
        return bool(await store.run("PING"))
    return False


async def load_second(client: Redis) -> int:
    """Returns the time of a server in seconds."""
    second, _ = await client.time()
    return int(second)
