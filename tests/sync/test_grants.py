"""Entitlements by something else than a sponsorship of one's own, on both sides."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import (
    EntitlementFacts,
    EntitlementPolicy,
    EntitlementStatus,
    evaluate,
)
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    NotFoundError,
    StoreUnavailableError,
)
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.domain.sponsorship import Membership, Memberships, Privacy, Sponsorship
from sponsorsync.entitlements.organization_members import Members
from sponsorsync.entitlements.overrides import Overrides
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.entitlement_fields import parse_entitlement_facts
from sponsorsync.store.entitlements import (
    EntitlementChange,
    EntitlementStore,
    Saved,
    end_entitlements,
)
from sponsorsync.store.linked_accounts import LinkedAccountStore
from sponsorsync.store.organizations import OrganizationStore
from tests.support.sync import CATALOG, COLLECTION, PERSON, SPONSORABLE, Pair
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from sponsorsync.domain.account import StoredEntitlement
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
PATRON = Grant(
    source=EntitlementSource.PATREON, since=YESTERDAY, until=NEXT_WEEK, cents=300, patron_id="4711"
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


@dataclass
class Desk:
    """What changes entitles without a login, on a pair."""

    pair: Pair

    @property
    def entitlements(self) -> EntitlementStore:
        """Where they are kept."""
        return EntitlementStore(
            self.pair.local_store,
            self.pair.people,
            catalog=CATALOG,
            fetcher=self.pair.engine.hydrator,
        )

    @property
    def overrides(self) -> Overrides:
        """What an administrator does."""
        return Overrides(
            self.entitlements,
            cast("GitHubClient", None),  # it is asked for logins only
            token=None,
            policy=POLICY,
            clock=lambda: datetime.now(UTC),
        )

    async def find_patron(self, patron_id: str) -> int | None:
        """Returns the person that linked an account of Patreon's."""
        linked_accounts = LinkedAccountStore(self.pair.local_store)
        return await linked_accounts.find_person(EntitlementSource.PATREON, SPONSORABLE, patron_id)

    @property
    def members(self) -> Members:
        """What follows organizations."""
        policy = replace(POLICY, entitles_members=True)
        organizations = OrganizationStore(self.pair.local_store)
        return Members(
            self.entitlements, organizations, policy=policy, clock=lambda: datetime.now(UTC)
        )

    async def keep(
        self, facts: EntitlementFacts, person_id: int = PERSON, *, by: str = "test"
    ) -> None:
        """Keeps facts, whatever was known."""
        await self.entitlements.change(SPONSORABLE, person_id, lambda _: facts, by=by)

    async def tell(self, facts: EntitlementFacts, person_id: int = PERSON) -> None:
        """Keeps what GitHub tells, as a webhook does: what else was known stays."""

        def decide(known: EntitlementFacts | None) -> EntitlementFacts:
            return replace(facts, grants=known.grants if known else ())

        await self.entitlements.change(SPONSORABLE, person_id, decide, by="webhook")

    async def facts(self, person_id: int = PERSON) -> EntitlementFacts | None:
        """Returns what is known."""
        return (await self.entitlements.load(SPONSORABLE, [person_id]))[person_id].facts

    async def status(self, person_id: int = PERSON) -> EntitlementStatus:
        """Returns the answer."""
        facts = await self.facts(person_id)
        return evaluate(SPONSORABLE, facts, policy=POLICY, now=datetime.now(UTC)).status

    async def sources(self, person_id: int = PERSON) -> set[EntitlementSource]:
        """Returns what else than a sponsorship is known to entitle somebody, or did."""
        facts = await self.facts(person_id)
        return {grant.source for grant in facts.grants} if facts else set()

    async def audited(self) -> list[tuple[str, str]]:
        """Returns what happened, the first first, and by what."""
        entries = await AuditTrail(self.pair.local_store).load(before=None, limit=BATCH)
        return [(entry.what, entry.by) for entry in reversed(entries)]


@pytest.fixture
def desk(pair: Pair) -> Desk:
    """Both sides at hand."""
    return Desk(pair)


@pytest.fixture
def cut_desk(cuttable: Pair) -> Desk:
    """The same, where the way to durable can be cut."""
    return Desk(cuttable)


async def _facts_on(client: Redis) -> EntitlementFacts | None:
    """Returns a side's facts, with the grants taken apart: their text may differ."""
    fields = await client.hgetall(ENTITLEMENT)
    raw = {str(name).encode(): str(value).encode() for name, value in fields.items()}
    return parse_entitlement_facts(SPONSORABLE, raw)


async def _serves(store: RedisStore) -> bool:
    """Whether a server can be asked again, after its way was cut."""
    with suppress(StoreUnavailableError):
        return bool(await store.run("PING"))
    return False


async def _are_equal(pair: Pair) -> bool:
    """Whether both sides have the same hash, and each an index that says so."""
    return bool(
        await pair.local.hgetall(ENTITLEMENT) == await pair.durable.hgetall(ENTITLEMENT)
        and await pair.local.sismember(INDEX, str(PERSON))
        == await pair.durable.sismember(INDEX, str(PERSON))
        and (await pair.engine.verifier.run()).agrees
    )


# --- what entitles by a grant ---


@pytest.mark.parametrize(
    ("grants", "also_until"),
    [
        ((OVERRIDE,), "never"),
        ((replace(OVERRIDE, until=TOMORROW),), str(int(TOMORROW.timestamp()))),
        ((replace(OVERRIDE, until=TOMORROW), PATRON), str(int(NEXT_WEEK.timestamp()))),
        ((PATRON, OVERRIDE), "never"),
        ((replace(MEMBERSHIP, has_seat=False),), None),
        ((), None),
    ],
    ids=["without end", "with one", "the later", "one has none", "without a seat", "none"],
)
async def test_the_scripts_are_told_the_latest_end(
    desk: Desk, grants: tuple[Grant, ...], also_until: str | None
) -> None:
    """They read no JSON to judge somebody."""
    await desk.keep(replace(NO_SPONSOR, grants=grants))

    assert await desk.pair.local.hget(ENTITLEMENT, "also_until") == also_until
    is_indexed = await desk.pair.local.sismember(INDEX, str(PERSON))
    assert bool(is_indexed) is (also_until is not None)


@pytest.mark.parametrize(
    ("own_end", "grant_end", "next_end", "last_end"),
    [
        (TOMORROW, NEXT_WEEK, TOMORROW, NEXT_WEEK),
        (NEXT_WEEK, TOMORROW, TOMORROW, NEXT_WEEK),
        (YESTERDAY, TOMORROW, TOMORROW, TOMORROW),
        (TOMORROW, YESTERDAY, TOMORROW, TOMORROW),
        (None, TOMORROW, TOMORROW, None),
        (TOMORROW, None, TOMORROW, None),
        (None, None, None, None),
    ],
)
async def test_of_two_ends_the_next_is_an_event_here_and_the_last_counts_there(
    desk: Desk,
    own_end: datetime | None,
    grant_end: datetime | None,
    next_end: datetime | None,
    last_end: datetime | None,
) -> None:
    """Each end may be a change of the tier; durable has to know when nothing entitles any more."""
    facts = replace(SPONSOR, valid_until=own_end, grants=(replace(OVERRIDE, until=grant_end),))
    await desk.keep(facts)
    await desk.pair.relay()

    calendars = [
        await side.zscore(keys.ENTITLEMENT_ENDS, MEMBER)
        for side in (desk.pair.local, desk.pair.durable)
    ]
    assert calendars == [end and end.timestamp() for end in (next_end, last_end)]
    assert await _are_equal(desk.pair)


async def test_an_end_that_leaves_something_else_is_a_change(desk: Desk) -> None:
    """Features are given by tier: the trail tells when it fell, and why."""
    moment = datetime.now(UTC) - timedelta(seconds=1)
    given = replace(OVERRIDE, cents=50_000, until=NEXT_WEEK)
    await desk.keep(replace(SPONSOR, grants=(given,)))
    over = json.dumps([{"source": "override", "until": int(moment.timestamp()), "since": 1}])
    await desk.pair.local.hset(ENTITLEMENT, mapping={"also": over, "also_until": "1"})
    await desk.pair.local.zadd(keys.ENTITLEMENT_ENDS, {MEMBER: moment.timestamp()})
    await end_entitlements(desk.pair.local_store)

    assert await desk.audited() == [("granted", "test"), ("changed", "end")]
    assert await desk.pair.local.sismember(INDEX, str(PERSON))
    assert await desk.pair.local.zscore(keys.ENTITLEMENT_ENDS, MEMBER) is None


async def test_who_was_let_in_takes_their_preferences_to_durable(desk: Desk) -> None:
    """Like a sponsor, those of before included."""
    await desk.pair.sign_in(entitled=False)
    await desk.pair.add("a")
    await desk.pair.relay()
    before = await desk.pair.kept()
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=None)
    await desk.pair.add("b")
    await desk.pair.relay()

    assert (before, await desk.pair.kept()) == (set(), {"a", "b"})
    assert await _are_equal(desk.pair)


async def test_a_login_without_a_sponsorship_leaves_a_grant_alone(desk: Desk) -> None:
    """GitHub tells of sponsorships, and of nothing else."""
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=None)
    await desk.tell(replace(SPONSOR, valid_until=YESTERDAY))
    await desk.pair.relay()

    assert await desk.status() is EntitlementStatus.ENTITLED
    assert await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await _are_equal(desk.pair)


async def test_a_grant_ends_with_its_time(desk: Desk) -> None:
    """The sweep makes it an event: durable learns it, and the copy is narrowed from then on."""
    await desk.pair.sign_in(entitled=False)
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=TOMORROW)
    await desk.pair.add("a", "b")
    await desk.pair.relay()
    # As if its time had come, on either side.
    for client in (desk.pair.local, desk.pair.durable):
        await client.hset(ENTITLEMENT, "also_until", "1")
    await desk.pair.local.zadd(keys.ENTITLEMENT_ENDS, {MEMBER: 1})
    swept = await desk.pair.local_store.run_script("sweep_entitlements", BATCH)
    await desk.pair.add("c")
    await desk.pair.remove("a")
    await desk.pair.relay()

    assert swept == 1
    assert await desk.pair.kept() == {"b"}
    assert not await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await desk.audited() == [("granted", "override"), ("lost", "end")]
    assert await desk.pair.durable.zscore(keys.LAPSED, str(PERSON)) is not None


async def test_a_snapshot_takes_grants_along(desk: Desk) -> None:
    """Into an empty durable, whose indexes are made of them."""
    await desk.pair.sign_in(entitled=False)
    await desk.keep(replace(NO_SPONSOR, grants=(replace(OVERRIDE, until=TOMORROW), PATRON)))
    await desk.pair.add("a")
    await desk.pair.durable.flushall()
    await desk.pair.engine.snapshot.run()

    assert await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await desk.pair.durable.zscore(keys.ENTITLEMENT_ENDS, MEMBER) == NEXT_WEEK.timestamp()
    assert await desk.pair.kept() == {"a"}


@pytest.mark.parametrize("side", ["local", "durable"])
async def test_an_end_that_somebody_changed_by_hand_is_found(desk: Desk, side: str) -> None:
    """And mended, so that both judge alike."""
    await desk.keep(replace(NO_SPONSOR, grants=(replace(OVERRIDE, until=TOMORROW),)))
    await desk.pair.relay()
    agreed = (await desk.pair.engine.verifier.run()).agrees
    changed: Redis = getattr(desk.pair, side)
    await changed.hset(ENTITLEMENT, "also_until", "never")
    found = await desk.pair.engine.verifier.run()
    fixed = await desk.pair.engine.verifier.run(fix=True)

    assert agreed
    assert found.counts == {"content differs": 1}
    assert fixed.agrees


async def test_after_a_flush_a_read_brings_grants_back(desk: Desk) -> None:
    """With all indexes that are made of them: seats, patrons, who is entitled."""
    kept = replace(SPONSOR, grants=(MEMBERSHIP, OVERRIDE, PATRON))
    await desk.keep(kept)
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.pair.compare()
    facts = await desk.facts()

    assert facts == kept
    assert await desk.pair.local.zrange(SEATS, 0, -1, withscores=True) == [
        (str(PERSON), NEXT_WEEK.timestamp())
    ]
    assert await desk.find_patron("4711") == PERSON
    assert await desk.pair.local.sismember(INDEX, str(PERSON))


async def test_who_has_no_seat_gets_none_by_a_flush(desk: Desk) -> None:
    """Only who had one is in that index again."""
    await desk.keep(replace(NO_SPONSOR, grants=(replace(MEMBERSHIP, has_seat=False),)))
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.pair.compare()
    await desk.facts()

    assert await desk.pair.local.exists(SEATS) == 0


# ---------------------------------------------------------------------- deletion


async def test_a_deleted_account_leaves_no_grant_behind(desk: Desk) -> None:
    """On neither side, and in no index; the trail tells what it lost by."""
    await desk.pair.sign_in(entitled=False)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, OVERRIDE, PATRON)))
    await desk.pair.add("a")
    await desk.pair.relay()
    await desk.pair.people.delete_account(PERSON)
    here = await desk.pair.local.exists(ENTITLEMENT, SEATS, keys.patrons(SPONSORABLE), INDEX)
    await desk.pair.relay()

    assert here == 0
    assert await desk.pair.local.zscore(keys.ENTITLEMENT_ENDS, MEMBER) is None
    assert (
        await desk.pair.durable.exists(ENTITLEMENT, INDEX, keys.ENTITLEMENT_ENDS, keys.LAPSED) == 0
    )
    assert await desk.pair.kept() == set()
    assert (await desk.audited())[-1] == ("lost", "deletion")
    assert (await desk.pair.engine.verifier.run()).agrees
    assert await desk.sources() == set()


async def test_a_deleted_account_does_not_end_the_link_of_another(desk: Desk) -> None:
    """Who linked the same account of Patreon's later has it."""
    await desk.keep(replace(NO_SPONSOR, grants=(PATRON,)))
    await desk.keep(replace(NO_SPONSOR, grants=(PATRON,)), PERSON + 1)
    await desk.pair.people.delete_account(PERSON)

    assert await desk.find_patron("4711") == PERSON + 1


@pytest.mark.parametrize("first", [PERSON, PERSON + 1], ids=["the older", "the younger"])
async def test_of_two_who_linked_the_same_account_the_later_one_has_it(
    desk: Desk, first: int
) -> None:
    """One of them did while local knew nothing of the other; either may come back first."""
    second = 2 * PERSON + 1 - first
    other = keys.sponsorship(SPONSORABLE, PERSON + 1)
    await desk.keep(replace(NO_SPONSOR, grants=(PATRON, OVERRIDE)))
    await desk.keep(replace(NO_SPONSOR, grants=(PATRON,)), PERSON + 1)
    await desk.pair.relay()
    await desk.pair.local.delete(ENTITLEMENT, other, keys.patrons(SPONSORABLE))
    await desk.facts(first)
    await desk.facts(second)
    await desk.pair.relay()

    assert await desk.sources() == {EntitlementSource.OVERRIDE}
    assert await desk.sources(PERSON + 1) == {EntitlementSource.PATREON}
    assert await desk.find_patron("4711") == PERSON + 1
    assert await _are_equal(desk.pair)


# ---------------------------------------------------------------------- durable is away


async def _facts_when_back(desk: Desk) -> EntitlementFacts | None:
    async def is_back() -> bool:
        return await desk.facts() is not None

    await until(is_back)
    return await desk.facts()


async def _lose_local_while_durable_is_away(
    desk: Desk, way: TcpProxy, facts: EntitlementFacts
) -> None:
    """Leaves what only durable knows."""
    await desk.keep(facts)
    await desk.pair.relay()
    await desk.pair.local.flushall()
    way.cut()


async def test_what_somebody_else_fetches_meanwhile_is_not_overwritten_unread(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """It may come back under the very version that was known before the loss."""
    await cut_desk.keep(replace(NO_SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.relay()
    await cut_desk.pair.local.delete(ENTITLEMENT)
    way.cut()
    unknown = (await cut_desk.entitlements.load(SPONSORABLE, [PERSON]))[PERSON]
    way.flow()
    fetched = await _facts_when_back(cut_desk)
    change = EntitlementChange(PERSON, SPONSOR, unknown.version, by="webhook", reference="")
    [saved] = await cut_desk.entitlements.save([change])

    assert unknown.facts is None
    assert saved is Saved.CHANGED
    assert await cut_desk.facts() == fetched
    assert fetched is not None
    assert fetched.grants == (OVERRIDE,)


async def test_what_github_tells_meanwhile_is_told_and_completed_later(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """It does not travel over what durable knows: that is added first."""
    grants = (MEMBERSHIP, OVERRIDE, PATRON)
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=grants))
    await cut_desk.pair.sign_in()
    meanwhile = await cut_desk.facts()
    kept = await _facts_on(cut_desk.pair.durable)
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert meanwhile is not None
    assert (meanwhile.source, meanwhile.is_partial) == (EntitlementSource.SPONSORSHIP, True)
    assert kept is not None
    assert kept.grants == grants
    facts = await cut_desk.facts()
    assert facts is not None
    assert (facts.grants, facts.is_partial) == (grants, False)
    assert await cut_desk.pair.local.hget(ENTITLEMENT, "also_until") == "never"
    assert await cut_desk.find_patron("4711") == PERSON
    assert await _are_equal(cut_desk.pair)


@pytest.mark.parametrize("teller", ["login", "webhook"])
async def test_who_github_does_not_entitle_is_unknown_meanwhile(
    cut_desk: Desk, way: TcpProxy, teller: str
) -> None:
    """Durable may know that an administrator has let them in, and it has."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=(OVERRIDE,)))
    tell: dict[str, Callable[[], Awaitable[None]]] = {
        "login": lambda: cut_desk.pair.sign_in(entitled=False),
        "webhook": lambda: cut_desk.tell(replace(SPONSOR, valid_until=YESTERDAY)),
    }
    await tell[teller]()
    meanwhile = await cut_desk.status()
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.status() is EntitlementStatus.ENTITLED
    assert await cut_desk.sources() == {EntitlementSource.OVERRIDE}
    assert await _are_equal(cut_desk.pair)


async def test_a_second_webhook_meanwhile_does_not_make_it_whole(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Durable has still not been asked."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.tell(SPONSOR)
    await cut_desk.tell(replace(SPONSOR, valid_until=YESTERDAY))
    meanwhile = await cut_desk.facts()
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert meanwhile is not None
    assert meanwhile.is_partial
    assert await cut_desk.sources() == {EntitlementSource.OVERRIDE}
    assert await _are_equal(cut_desk.pair)


async def test_while_somebody_else_asks_durable_it_does_not_travel(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Nor in a snapshot; it stays to be done."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    way.flow()
    await cut_desk.pair.local.set(keys.lease(PERSON), "somebody else's")
    await until(partial(_serves, cut_desk.pair.durable_store))
    await cut_desk.pair.engine.relay.drain([PERSON])
    await cut_desk.pair.engine.snapshot.run()
    kept, dirty = await _facts_on(cut_desk.pair.durable), await cut_desk.pair.dirty()
    await cut_desk.pair.local.delete(keys.lease(PERSON))
    await cut_desk.pair.relay_when_back()

    assert kept is not None
    assert (kept.source, kept.grants) == (EntitlementSource.SPONSORSHIP, (OVERRIDE,))
    assert dirty == {PERSON}
    assert await cut_desk.sources() == {EntitlementSource.OVERRIDE}
    assert await _are_equal(cut_desk.pair)


async def test_of_whom_durable_knows_nothing_what_was_told_is_all(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """It becomes whole, and travels."""
    way.cut()
    await cut_desk.pair.sign_in(entitled=False)
    meanwhile = await cut_desk.status()
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.status() is EntitlementStatus.NOT_ENTITLED
    assert await _are_equal(cut_desk.pair)


async def test_with_one_redis_there_is_nobody_else_to_know(desk: Desk) -> None:
    """Nor where durable has just said that it has nothing."""
    await desk.pair.sign_in(entitled=False)

    assert await desk.status() is EntitlementStatus.NOT_ENTITLED


async def test_an_administrator_waits_for_what_only_durable_knows(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """What was decided before cannot be taken back, nor replaced, while it is not known."""
    ended = replace(OVERRIDE, until=TOMORROW)
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=(ended,)))
    await cut_desk.pair.sign_in()
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=1, until=None)
    way.flow()
    await cut_desk.pair.relay_when_back()
    await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    await cut_desk.pair.relay()

    assert await cut_desk.sources() == set()
    with pytest.raises(NotFoundError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    assert await _are_equal(cut_desk.pair)


async def test_a_local_that_came_back_partial_takes_what_durable_has_newer(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Somebody else had completed it, and gone on, before local fell back."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    names = (ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE)
    before = {name: await cut_desk.pair.local.dump(name) for name in names}
    way.flow()
    await cut_desk.pair.relay_when_back()
    await cut_desk.keep(replace(SPONSOR, tier_cents=2500, grants=(OVERRIDE, PATRON)))
    await cut_desk.pair.relay()
    for name, dump in before.items():
        await cut_desk.pair.local.restore(name, 0, dump, replace=True)  # type: ignore[arg-type]
    was_partial = await cut_desk.pair.local.hexists(ENTITLEMENT, "partial")
    await cut_desk.pair.local.sadd(keys.DIRTY, PERSON)
    await cut_desk.pair.relay()

    assert was_partial
    facts = await cut_desk.facts()
    assert facts == replace(SPONSOR, tier_cents=2500, grants=(OVERRIDE, PATRON))
    assert await _are_equal(cut_desk.pair)


async def test_a_sponsorship_that_github_did_not_tell_of_comes_back(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """A login showed the organizations alone: that says nothing of one's own sponsorship."""
    kept = replace(SPONSOR, privacy=Privacy.PRIVATE, grants=(OVERRIDE,))
    await _lose_local_while_durable_is_away(cut_desk, way, kept)
    silent = replace(NO_SPONSOR, checked_at=None, memberships_checked_at=NOW)
    await cut_desk.keep(silent)
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert await cut_desk.facts() == replace(kept, memberships_checked_at=NOW)
    assert await _are_equal(cut_desk.pair)


async def test_a_tier_and_an_announced_end_come_back(cut_desk: Desk, way: TcpProxy) -> None:
    """Of the same sponsorship: a member sees no tier, and only the webhook tells that end."""
    kept = replace(SPONSOR, valid_until=TOMORROW)
    await _lose_local_while_durable_is_away(cut_desk, way, kept)
    await cut_desk.keep(replace(SPONSOR, tier_cents=None))
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert await cut_desk.facts() == kept
    assert await _are_equal(cut_desk.pair)


@pytest.mark.parametrize(
    "told",
    [
        replace(SPONSOR, tier_cents=2500, valid_until=NEXT_WEEK),
        replace(SPONSOR, since=NOW, tier_cents=None),
        replace(NO_SPONSOR, checked_at=NOW + DAY),
    ],
    ids=["something else", "of another one", "that there is none"],
)
async def test_what_github_told_meanwhile_stays(
    cut_desk: Desk, way: TcpProxy, told: EntitlementFacts
) -> None:
    """It is later than all that durable has."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, valid_until=TOMORROW))
    await cut_desk.keep(told)
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert await cut_desk.facts() == told


async def test_an_announced_end_that_has_come_is_none(cut_desk: Desk, way: TcpProxy) -> None:
    """GitHub tells that it goes on."""
    await _lose_local_while_durable_is_away(cut_desk, way, replace(SPONSOR, valid_until=YESTERDAY))
    await cut_desk.keep(SPONSOR)
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert await cut_desk.facts() == SPONSOR


async def test_an_organization_that_was_left_meanwhile_does_not_come_back(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """A login showed all to which they belong, and it was not among them."""
    kept = replace(NO_SPONSOR, grants=(MEMBERSHIP, OVERRIDE), memberships_checked_at=YESTERDAY)
    await _lose_local_while_durable_is_away(cut_desk, way, kept)
    await cut_desk.keep(replace(NO_SPONSOR, memberships_checked_at=NOW))
    way.flow()
    await cut_desk.pair.relay_when_back()

    facts = await cut_desk.facts()
    assert facts is not None
    assert (facts.grants, facts.memberships_checked_at) == ((OVERRIDE,), NOW)
    assert await _are_equal(cut_desk.pair)


async def test_of_organizations_that_were_not_all_shown_each_comes_back(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Next to those that were."""
    hidden = replace(MEMBERSHIP, organization_id=OTHER_ORG, organization="hidden-org")
    renewed = replace(MEMBERSHIP, until=NEXT_WEEK + DAY, member_until=NEXT_WEEK + DAY)
    kept = replace(NO_SPONSOR, grants=(MEMBERSHIP, hidden), memberships_checked_at=YESTERDAY)
    await _lose_local_while_durable_is_away(cut_desk, way, kept)
    told = replace(
        NO_SPONSOR,
        grants=(renewed,),
        memberships_checked_at=NOW,
        memberships_unknown_since=NOW,
    )
    await cut_desk.keep(told)
    way.flow()
    await cut_desk.pair.relay_when_back()

    assert await cut_desk.facts() == replace(told, grants=(renewed, hidden))
    assert await _are_equal(cut_desk.pair)


async def test_that_memberships_were_seen_comes_back(cut_desk: Desk, way: TcpProxy) -> None:
    """A webhook tells nothing of them: they are as known as they were."""
    kept = replace(NO_SPONSOR, memberships_checked_at=YESTERDAY)
    await _lose_local_while_durable_is_away(cut_desk, way, kept)
    await cut_desk.keep(replace(SPONSOR, valid_until=YESTERDAY))
    way.flow()
    await cut_desk.pair.relay_when_back()

    facts = await cut_desk.facts()
    assert facts is not None
    assert facts.memberships_checked_at == YESTERDAY
    assert facts.memberships_unknown_since is None


@pytest.mark.parametrize("also", ['"none of ours"', "[1]", '{"until":1}', "no JSON"])
async def test_grants_of_somebody_else_stop_nobody(desk: Desk, also: str) -> None:
    """They entitlement nobody, and the next change replaces them."""
    await desk.pair.sign_in()
    await desk.pair.local.hset(ENTITLEMENT, "also", also)
    await desk.pair.sign_in()
    await desk.pair.relay()
    await desk.pair.people.delete_account(PERSON)

    assert await desk.audited() == [
        ("granted", "login"),
        ("changed", "login"),
        ("lost", "deletion"),
    ]


# ---------------------------------------------------------------------- organizations


async def _are_noted(pair: Pair) -> set[str]:
    return {str(field) for field in await pair.local.hkeys(keys.ORGANIZATIONS)}


ORG_FIELD = f"{SPONSORABLE}:{ORG}"
NEWCOMER_FIELD = f"{ORG_FIELD}:{PERSON}"
ORG_ENTITLEMENT = keys.sponsorship(SPONSORABLE, ORG)


def _watch(entitlements: EntitlementStore, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """Returns where it is noted who is read together."""
    load, seen = type(entitlements).load, []

    async def note(
        entitlements: EntitlementStore, sponsorable: str, person_ids: Sequence[int]
    ) -> Mapping[int, StoredEntitlement]:
        seen.append(person_ids)
        return await load(entitlements, sponsorable, person_ids)

    monkeypatch.setattr(EntitlementStore, "load", note)
    return seen


async def test_an_end_that_came_while_local_knew_no_member_reaches_them(desk: Desk) -> None:
    """After a flush members come back one by one, each as they were before."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.keep(replace(SPONSOR, valid_until=YESTERDAY), ORG)
    await desk.members.follow()
    came_back = await desk.facts()
    await desk.members.follow()

    assert came_back is not None
    assert came_back.grants == (MEMBERSHIP,)
    facts = await desk.facts()
    assert facts is not None
    assert [grant.until for grant in facts.grants] == [YESTERDAY]
    assert await _are_noted(desk.pair) == set()


async def test_a_member_who_joins_is_judged_once_more(desk: Desk) -> None:
    """The organization may have changed between what a login read of it and what it wrote."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    joined = await _are_noted(desk.pair)
    await desk.members.follow()
    await desk.keep(replace(NO_SPONSOR, grants=(replace(MEMBERSHIP, cents=1),)))
    renewed = await _are_noted(desk.pair)

    assert (joined, renewed) == ({NEWCOMER_FIELD}, set())


async def test_while_an_organization_is_not_known_its_members_keep_their_entitlement(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Only durable knows it, and is away: the note stays, and others are not kept waiting."""
    other = replace(MEMBERSHIP, organization_id=OTHER_ORG)
    await cut_desk.keep(SPONSOR, ORG)
    await cut_desk.keep(replace(SPONSOR, tier_cents=2500), OTHER_ORG)
    await cut_desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, other)))
    await cut_desk.pair.relay()
    await cut_desk.pair.evict(ORG_ENTITLEMENT)
    way.cut()
    with pytest.raises(DurableUnavailableError):
        await cut_desk.members.follow()
    noted = await _are_noted(cut_desk.pair)
    facts = await cut_desk.facts()
    way.flow()
    await cut_desk.pair.relay_when_back()
    await cut_desk.members.follow()

    assert noted == {NEWCOMER_FIELD}
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [10_000, 2500]
    facts = await cut_desk.facts()
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [1000, 2500]
    assert await _are_noted(cut_desk.pair) == set()


async def test_a_foreign_key_of_one_member_keeps_no_other_waiting(desk: Desk) -> None:
    """Neither of the same organization nor of another one; and nobody is judged for ever."""
    other = replace(MEMBERSHIP, organization_id=OTHER_ORG)
    await desk.keep(SPONSOR, ORG)
    await desk.keep(SPONSOR, OTHER_ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, other)), PERSON + 1)
    await desk.pair.local.set(keys.preferences(PERSON, COLLECTION), "somebody else's")
    with capture_logs() as logs:
        await desk.members.follow()

    facts = await desk.facts(PERSON + 1)
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [1000, 1000]
    assert await _are_noted(desk.pair) == set()
    assert [log["member"] for log in logs if log["event"] == "member_not_followed"] == [PERSON]


async def test_only_who_is_new_is_judged_when_somebody_joins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Organizations have thousands of members, and each sign-in would judge them all."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    await desk.members.follow()
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)), PERSON + 1)
    judged = _watch(desk.entitlements, monkeypatch)
    await desk.members.follow()

    assert judged == [[PERSON + 1]]
    facts = await desk.facts(PERSON + 1)
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [1000]


async def test_members_are_judged_by_the_hundred(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round trip for each would take minutes; of whom nothing changes nothing is written."""
    numbers = list(range(PERSON, PERSON + 3))
    await desk.keep(SPONSOR, ORG)
    for number in numbers:
        await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)), number)
    await desk.members.follow()
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)), PERSON)
    await desk.keep(SPONSOR, ORG)
    before = await desk.pair.local.zscore(keys.PEOPLE, str(PERSON + 1))
    monkeypatch.setattr("sponsorsync.entitlements.organization_members._CHUNK", 2)
    judged = _watch(desk.entitlements, monkeypatch)
    await desk.members.follow()

    assert judged == [numbers[:2], numbers[2:]]
    assert (await desk.audited())[-1] == ("changed", "organization")
    assert await desk.pair.local.zscore(keys.PEOPLE, str(PERSON + 1)) == before


async def test_who_changes_meanwhile_is_judged_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-in may come between reading a hundred members and writing them."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    save = EntitlementStore.save

    async def come_between(
        entitlements: EntitlementStore, changes: list[EntitlementChange]
    ) -> list[Saved]:
        monkeypatch.setattr(EntitlementStore, "save", save)
        await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, OVERRIDE)))
        return await save(entitlements, changes)

    monkeypatch.setattr(EntitlementStore, "save", come_between)
    await desk.members.follow()

    facts = await desk.facts()
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [1000, None]
    assert await _are_noted(desk.pair) == set()


async def test_one_replica_follows_at_a_time(desk: Desk) -> None:
    """Each of several would do the same work; who dies leaves the right for seconds."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    await desk.pair.local.set(keys.RECOMPUTING, "another", px=keys.RECOMPUTING_TTL_MS)
    await desk.members.follow()
    noted = await _are_noted(desk.pair)
    await desk.pair.local.delete(keys.RECOMPUTING)
    await desk.members.follow()

    assert noted == {NEWCOMER_FIELD}
    assert await _are_noted(desk.pair) == set()
    assert await desk.pair.local.exists(keys.RECOMPUTING) == 0


async def test_while_members_are_judged_the_right_to_is_renewed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a large organization may take longer than it lasts."""
    await desk.keep(SPONSOR, ORG)
    for number in (PERSON, PERSON + 1):
        await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)), number)
    monkeypatch.setattr("sponsorsync.entitlements.organization_members._CHUNK", 1)
    load, left_ms = EntitlementStore.load, []

    async def take_time(entitlements: EntitlementStore, *arguments: Any) -> Any:  # noqa: ANN401 - load's own
        left_ms.append(await desk.pair.local.pttl(keys.RECOMPUTING))
        await desk.pair.local.pexpire(keys.RECOMPUTING, 1000)
        return await load(entitlements, *arguments)

    monkeypatch.setattr(EntitlementStore, "load", take_time)
    await desk.members.follow()

    assert len(left_ms) == 2
    assert min(left_ms) > 1000


async def test_who_lost_the_right_to_judge_leaves_the_rest_to_who_has_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away for long; nothing is lost by it."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    load = EntitlementStore.load

    async def be_away(entitlements: EntitlementStore, *arguments: Any) -> Any:  # noqa: ANN401 - load's own
        await desk.pair.local.set(keys.RECOMPUTING, "another")
        return await load(entitlements, *arguments)

    monkeypatch.setattr(EntitlementStore, "load", be_away)
    with pytest.raises(StoreUnavailableError, match="another replica"):
        await desk.members.follow()

    assert await _are_noted(desk.pair) == {NEWCOMER_FIELD}
    assert await desk.pair.local.get(keys.RECOMPUTING) == "another"


async def test_an_organization_that_gives_nothing_for_certain_entitles_nobody(desk: Desk) -> None:
    """It was never one, or its account is gone."""
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, OVERRIDE)))
    await desk.members.follow()

    assert await desk.sources() == {EntitlementSource.OVERRIDE}
    assert await desk.pair.local.exists(SEATS) == 0


async def test_a_local_that_came_back_older_gives_up_what_was_ended_since(desk: Desk) -> None:
    """The seat and the link to a patron go with the grants."""
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP, PATRON)))
    await desk.pair.relay()
    names = (ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE, SEATS, keys.patrons(SPONSORABLE))
    before = {name: await desk.pair.local.dump(name) for name in names}
    await desk.keep(NO_SPONSOR)
    await desk.pair.relay()
    for name, dump in before.items():
        await desk.pair.local.restore(name, 0, dump, replace=True)  # type: ignore[arg-type]
    await desk.pair.local.sadd(keys.DIRTY, PERSON)
    await desk.pair.relay()

    assert await desk.sources() == set()
    assert await desk.pair.local.exists(SEATS, keys.patrons(SPONSORABLE)) == 0


async def test_a_local_that_came_back_older_judges_members_on_what_is_newer(desk: Desk) -> None:
    """What durable knows of the organization is another change of it."""
    await desk.keep(SPONSOR, ORG)
    await desk.keep(replace(NO_SPONSOR, grants=(MEMBERSHIP,)))
    await desk.members.follow()
    await desk.pair.relay()
    names = (ORG_ENTITLEMENT, keys.meta(ORG), ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE)
    before = {name: await desk.pair.local.dump(name) for name in names}
    await desk.keep(replace(SPONSOR, valid_until=YESTERDAY), ORG)
    await desk.pair.relay()
    for name, dump in before.items():
        await desk.pair.local.restore(name, 0, dump, replace=True)  # type: ignore[arg-type]
    await desk.pair.local.delete(keys.ORGANIZATIONS)
    await desk.pair.local.sadd(keys.DIRTY, ORG)
    await desk.pair.relay()
    await desk.members.follow()

    facts = await desk.facts()
    assert facts is not None
    assert [grant.until for grant in facts.grants] == [YESTERDAY]
    assert await _are_noted(desk.pair) == set()


def _belongs_to(*organizations: int, is_complete: bool = True) -> Memberships:
    """What a member's login shows of organizations whose sponsorships are private."""
    return Memberships(
        [Membership(number, f"org-{number}", ()) for number in organizations],
        is_complete=is_complete,
    )


async def test_an_organization_that_only_durable_knows_entitles_who_signs_in(desk: Desk) -> None:
    """After a flush; nobody of its members sees its private sponsorship."""
    await desk.keep(replace(SPONSOR, privacy=Privacy.PRIVATE), ORG)
    await desk.pair.relay()
    await desk.pair.local.flushall()
    seen = await desk.members.see(
        PERSON, SPONSORABLE, NO_SPONSOR, _belongs_to(ORG), asked_at=datetime.now(UTC)
    )

    assert seen is not None
    assert [grant.cents for grant in seen.grants] == [1000]
    assert seen.memberships_unknown_since is None


async def _second_of(client: Redis) -> int:
    second, _ = await client.time()
    return int(second)


async def test_a_sign_in_that_fails_holds_a_seat_for_minutes(desk: Desk) -> None:
    """It is taken before what the sign-in told is kept, and others wait for it."""
    await desk.keep(SPONSOR, ORG)
    local = desk.pair.local
    before = await _second_of(local)
    seen = await desk.members.see(
        PERSON, SPONSORABLE, None, _belongs_to(ORG), asked_at=datetime.now(UTC)
    )
    after = await _second_of(local)
    held = await local.zscore(SEATS, str(PERSON))
    assert seen is not None
    [grant] = seen.grants
    assert grant.member_until is not None
    await desk.keep(seen)
    kept = await local.zscore(SEATS, str(PERSON))
    await desk.members.see(PERSON, SPONSORABLE, seen, _belongs_to(ORG), asked_at=datetime.now(UTC))

    assert held is not None
    assert before <= held - keys.SEAT_TTL_S <= after
    assert kept == grant.member_until.timestamp()
    assert await local.zscore(SEATS, str(PERSON)) == kept


async def test_an_organization_that_cannot_be_told_keeps_its_members(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Only durable knows it, and is away: unknown is not no."""
    known = replace(NO_SPONSOR, grants=(MEMBERSHIP,), memberships_checked_at=YESTERDAY)
    await cut_desk.keep(replace(SPONSOR, privacy=Privacy.PRIVATE), ORG)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.flushall()
    way.cut()
    seen = await cut_desk.members.see(
        PERSON, SPONSORABLE, known, _belongs_to(ORG), asked_at=datetime.now(UTC)
    )
    unknown = await cut_desk.members.see(
        PERSON, SPONSORABLE, NO_SPONSOR, _belongs_to(ORG), asked_at=datetime.now(UTC)
    )
    left = await cut_desk.members.see(
        PERSON, SPONSORABLE, known, _belongs_to(), asked_at=datetime.now(UTC)
    )

    assert seen is not None
    assert seen.grants == (MEMBERSHIP,)
    assert seen.memberships_unknown_since is not None
    assert unknown is not None
    policy = replace(POLICY, entitles_members=True)
    entitlement = evaluate(SPONSORABLE, unknown, policy=policy, now=datetime.now(UTC))
    assert entitlement.status is EntitlementStatus.UNKNOWN
    assert left is not None
    assert (left.grants, left.memberships_unknown_since) == ((), None)


async def test_of_an_organization_that_durable_does_not_know_there_is_nothing_to_know(
    desk: Desk,
) -> None:
    """It says so, and whoever belongs there is not entitled by it."""
    seen = await desk.members.see(
        PERSON, SPONSORABLE, NO_SPONSOR, _belongs_to(ORG, OTHER_ORG), asked_at=datetime.now(UTC)
    )

    assert seen is not None
    assert (seen.grants, seen.memberships_unknown_since) == ((), None)


async def test_an_organization_that_a_login_shows_meanwhile_keeps_its_tier(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Members do not see it; durable knows it, and is away for the moment."""
    shown = Sponsorship(
        sponsorable=SPONSORABLE,
        created_at=YESTERDAY,
        is_active=True,
        is_one_time=False,
        privacy=Privacy.PUBLIC,
        payment_source=None,
        tier_cents=None,
        tier_selected_at=None,
    )
    memberships = Memberships([Membership(ORG, "sponsoring-org", (shown,))], is_complete=True)
    await cut_desk.keep(SPONSOR, ORG)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.flushall()
    way.cut()
    seen = await cut_desk.members.see(
        PERSON, SPONSORABLE, NO_SPONSOR, memberships, asked_at=datetime.now(UTC)
    )
    assert seen is not None
    await cut_desk.keep(seen)
    way.flow()
    await cut_desk.pair.relay_when_back()
    await cut_desk.members.follow()

    facts = await cut_desk.facts()
    assert [grant.cents for grant in seen.grants] == [None]
    assert facts is not None
    assert [grant.cents for grant in facts.grants] == [1000]
