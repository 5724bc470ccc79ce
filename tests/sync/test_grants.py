"""Grants on both servers: reasons for an entitlement other than the person's sponsorship."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.entitlement import EntitlementStatus
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.store import keys
from sponsorsync.store.entitlements import end_entitlements
from tests.support.grants import (
    ADMIN,
    BATCH,
    ENTITLEMENT,
    INDEX,
    LINKED_ACCOUNTS,
    MEMBER,
    MEMBERSHIP,
    NEXT_WEEK,
    NO_SPONSOR,
    OVERRIDE,
    PATRON,
    SEATS,
    SPONSOR,
    TOMORROW,
    YESTERDAY,
    Desk,
)
from tests.support.sync import PERSON, SPONSORABLE


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
async def test_the_latest_end_of_all_grants_is_stored_for_the_scripts(
    desk: Desk, grants: tuple[Grant, ...], also_until: str | None
) -> None:
    """With this field, scripts evaluate a person without parsing the JSON of the grants."""
    await desk.save(replace(NO_SPONSOR, grants=grants))

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
async def test_local_waits_for_the_next_of_two_ends_and_durable_for_the_last(
    desk: Desk,
    own_end: datetime | None,
    grant_end: datetime | None,
    next_end: datetime | None,
    last_end: datetime | None,
) -> None:
    """Local has to act on each end, which may change the tier; durable needs only the last one."""
    facts = replace(SPONSOR, valid_until=own_end, grants=(replace(OVERRIDE, until=grant_end),))
    await desk.save(facts)
    await desk.pair.relay()

    ends = [
        await client.zscore(keys.ENTITLEMENT_ENDS, MEMBER)
        for client in (desk.pair.local, desk.pair.durable)
    ]
    assert ends == [end and end.timestamp() for end in (next_end, last_end)]
    assert await desk.are_equal()


async def test_an_end_that_leaves_another_grant_is_a_change(desk: Desk) -> None:
    """Features depend on the tier, so the audit trail shows when and why the tier fell."""
    moment = datetime.now(UTC) - timedelta(seconds=1)
    override = replace(OVERRIDE, cents=50_000, until=NEXT_WEEK)
    await desk.save(replace(SPONSOR, grants=(override,)))
    ended = json.dumps([{"source": "override", "until": int(moment.timestamp()), "since": 1}])
    await desk.pair.local.hset(ENTITLEMENT, mapping={"also": ended, "also_until": "1"})
    await desk.pair.local.zadd(keys.ENTITLEMENT_ENDS, {MEMBER: moment.timestamp()})
    await end_entitlements(desk.pair.local_store)

    assert await desk.load_audit() == [("granted", "test"), ("changed", "end")]
    assert await desk.pair.local.sismember(INDEX, str(PERSON))
    assert await desk.pair.local.zscore(keys.ENTITLEMENT_ENDS, MEMBER) is None


async def test_an_override_sends_preferences_to_durable(desk: Desk) -> None:
    """As for a sponsor, preferences from before the entitlement are sent too."""
    await desk.pair.settle("a", entitled=False)
    before = await desk.pair.durable_items()
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=None)
    await desk.pair.add("b")
    await desk.pair.relay()

    assert (before, await desk.pair.durable_items()) == (set(), {"a", "b"})
    assert await desk.are_equal()


async def test_a_login_without_a_sponsorship_leaves_a_grant_alone(desk: Desk) -> None:
    """GitHub reports only sponsorships, so its answer says nothing about grants."""
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=None)
    await desk.apply_webhook(replace(SPONSOR, valid_until=YESTERDAY))
    await desk.pair.relay()

    assert await desk.load_status() is EntitlementStatus.ENTITLED
    assert await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await desk.are_equal()


async def test_a_grant_ends_with_its_time(desk: Desk) -> None:
    """`sweep_entitlements` makes the end a change: it is relayed, and durable's copy pruned."""
    await desk.pair.sign_in(entitled=False)
    await desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=None, until=TOMORROW)
    await desk.pair.add("a", "b")
    await desk.pair.relay()
    # As if its end had passed, on both servers.
    for client in (desk.pair.local, desk.pair.durable):
        await client.hset(ENTITLEMENT, "also_until", "1")
    await desk.pair.local.zadd(keys.ENTITLEMENT_ENDS, {MEMBER: 1})
    swept = await desk.pair.local_store.run_script("sweep_entitlements", BATCH)
    await desk.pair.add("c")
    await desk.pair.remove("a")
    await desk.pair.relay()

    assert swept == 1
    assert await desk.pair.durable_items() == {"b"}
    assert not await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await desk.load_audit() == [("granted", "override"), ("lost", "end")]
    assert await desk.pair.durable.zscore(keys.LAPSED, str(PERSON)) is not None


async def test_a_snapshot_copies_grants(desk: Desk) -> None:
    """An empty durable builds its indexes from the grants of the snapshot."""
    await desk.pair.sign_in(entitled=False)
    await desk.save_grants(replace(OVERRIDE, until=TOMORROW), PATRON)
    await desk.pair.add("a")
    await desk.pair.durable.flushall()
    await desk.pair.engine.snapshot.run()

    assert await desk.pair.durable.sismember(INDEX, str(PERSON))
    assert await desk.pair.durable.zscore(keys.ENTITLEMENT_ENDS, MEMBER) == NEXT_WEEK.timestamp()
    assert await desk.pair.durable_items() == {"a"}


@pytest.mark.parametrize("server", ["local", "durable"])
async def test_an_end_that_was_changed_by_hand_is_repaired(desk: Desk, server: str) -> None:
    """The field `also_until` of both servers must be equal, because scripts evaluate by it."""
    await desk.save_grants(replace(OVERRIDE, until=TOMORROW))
    await desk.pair.relay()
    agreed = (await desk.pair.engine.verifier.run()).agrees
    changed: Redis = getattr(desk.pair, server)
    await changed.hset(ENTITLEMENT, "also_until", "never")
    found = await desk.pair.engine.verifier.run()
    fixed = await desk.pair.engine.verifier.run(fix=True)

    assert agreed
    assert found.counts == {"content differs": 1}
    assert fixed.agrees


async def test_a_read_after_a_flush_restores_grants(desk: Desk) -> None:
    """The indexes of seats, of patrons and of entitled people come back too."""
    stored = replace(SPONSOR, grants=(MEMBERSHIP, OVERRIDE, PATRON))
    await desk.save(stored)
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.pair.compare()
    facts = await desk.load()

    assert facts == stored
    assert await desk.pair.local.zrange(SEATS, 0, -1, withscores=True) == [
        (str(PERSON), NEXT_WEEK.timestamp())
    ]
    assert await desk.find_patron("4711") == PERSON
    assert await desk.pair.local.sismember(INDEX, str(PERSON))


async def test_a_member_without_a_seat_gets_none_after_a_flush(desk: Desk) -> None:
    """The index of seats has only members with a seat, also after data are fetched."""
    await desk.save_grants(replace(MEMBERSHIP, has_seat=False))
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.pair.compare()
    await desk.load()

    assert await desk.pair.local.exists(SEATS) == 0


async def test_a_deleted_account_leaves_no_grant_behind(desk: Desk) -> None:
    """No grant is left on a server or in an index; the audit trail shows the loss."""
    await desk.pair.sign_in(entitled=False)
    await desk.save_grants(MEMBERSHIP, OVERRIDE, PATRON)
    await desk.pair.add("a")
    await desk.pair.relay()
    await desk.pair.people.delete_account(PERSON)
    here = await desk.pair.local.exists(ENTITLEMENT, SEATS, LINKED_ACCOUNTS, INDEX)
    await desk.pair.relay()

    assert here == 0
    assert await desk.pair.local.zscore(keys.ENTITLEMENT_ENDS, MEMBER) is None
    assert (
        await desk.pair.durable.exists(ENTITLEMENT, INDEX, keys.ENTITLEMENT_ENDS, keys.LAPSED) == 0
    )
    assert await desk.pair.durable_items() == set()
    assert (await desk.load_audit())[-1] == ("lost", "deletion")
    assert (await desk.pair.engine.verifier.run()).agrees
    assert await desk.load_sources() == set()


async def test_a_deleted_account_does_not_end_the_link_of_another(desk: Desk) -> None:
    """Another person linked the same Patreon account later."""
    await desk.save_grants(PATRON)
    await desk.save_grants(PATRON, person_id=PERSON + 1)
    await desk.pair.people.delete_account(PERSON)

    assert await desk.find_patron("4711") == PERSON + 1


@pytest.mark.parametrize("first", [PERSON, PERSON + 1], ids=["the older", "the younger"])
async def test_the_later_of_two_links_to_one_account_wins(desk: Desk, first: int) -> None:
    """Local lost both people, and the order in which they are fetched does not matter."""
    second = 2 * PERSON + 1 - first
    other = keys.sponsorship(SPONSORABLE, PERSON + 1)
    await desk.save_grants(PATRON, OVERRIDE)
    await desk.save_grants(PATRON, person_id=PERSON + 1)
    await desk.pair.relay()
    await desk.pair.local.delete(ENTITLEMENT, other, LINKED_ACCOUNTS)
    await desk.load(first)
    await desk.load(second)
    await desk.pair.relay()

    assert await desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await desk.load_sources(PERSON + 1) == {EntitlementSource.PATREON}
    assert await desk.find_patron("4711") == PERSON + 1
    assert await desk.are_equal()


@pytest.mark.parametrize("also", ['"none of ours"', "[1]", '{"until":1}', "no JSON"])
async def test_unreadable_grants_do_not_stop_a_person(desk: Desk, also: str) -> None:
    """Unreadable grants entitle to nothing, and the next change replaces them."""
    await desk.pair.sign_in()
    await desk.pair.local.hset(ENTITLEMENT, "also", also)
    await desk.pair.settle()
    await desk.pair.people.delete_account(PERSON)

    assert await desk.load_audit() == [
        ("granted", "login"),
        ("changed", "login"),
        ("lost", "deletion"),
    ]
