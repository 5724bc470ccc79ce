"""The drain of write_behind sends dirty people to durable; one person delays no other."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementStore
from tests.support.gears_engine import Gears
from tests.support.outages import (
    DURABLE_OUTAGES,
    Outage,
    be_loading,
    fill_with_ballast,
    open_admin,
    refuse_connections,
)
from tests.support.proxy import run_proxy
from tests.support.shipped import (
    ANOTHER_INCARNATION,
    META,
    OTHER,
    SET,
    VERSION,
    Shipped,
    environment_for,
    point_at,
    run_shipped,
)
from tests.support.sync import CATALOG, PERSON, SPONSORABLE, OwnServer
from tests.support.waiting import until, until_equal

AN_HOUR_US = 3600 * 10**6
LIMIT_S = 30
# The scripts' waits for a durable that does not answer, shorter than in their sources.
SHORT = {"DOWN_S": 0.2, "SOCKET_TIMEOUT_S": 0.5}


@pytest.fixture
async def drained(shipped: Shipped) -> Shipped:
    """An engine with the script write_behind, and a replica of the service."""
    await shipped.upload("write_behind")
    return shipped


async def test_a_login_and_preferences_reach_durable(drained: Shipped) -> None:
    """The loops of the service do not run, so only the script sends."""
    await drained.add_person("a", "b")

    assert await drained.pair.durable_items() == {"a", "b"}
    profile = await drained.pair.durable.hgetall(keys.user_details(PERSON))
    assert profile == await drained.pair.local.hgetall(keys.user_details(PERSON))
    assert await drained.pair.durable.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await drained.no_registration_failed()


async def test_the_drain_sends_no_preferences_of_people_who_are_not_entitled(
    drained: Shipped,
) -> None:
    """Only their profile and entitlement are sent."""
    await drained.pair.add_person("a", entitled=False)
    await drained.pair.local.sadd(SET, "b")
    await drained.settle()

    assert await drained.pair.durable_items() == set()
    assert await drained.pair.durable.exists(keys.user_details(PERSON)) == 1


async def test_many_people_are_sent_in_few_round_trips(drained: Shipped) -> None:
    """The drain sends batches, not single people."""
    await drained.hold_drain()
    people = range(PERSON, PERSON + 250)
    for person in people:
        await drained.pair.save_login(person)
    before = await drained.pair.count_durable_scripts()
    await drained.release_drain()
    await drained.settle()

    assert await drained.pair.durable.zcard(keys.PEOPLE) == len(people)
    assert await drained.pair.count_durable_scripts() - before <= 20


async def test_newer_data_of_durable_win_in_the_drain(drained: Shipped) -> None:
    """Local may have restarted in an older state, or another replica has sent newer data."""
    await drained.add_person("a")
    newer = await drained.version() + AN_HOUR_US
    await drained.pair.durable.sadd(SET, "z")
    await drained.pair.durable.hset(META, VERSION, str(newer))
    await drained.pair.local.sadd(SET, "b")
    await drained.settle()

    assert await drained.pair.local_items() == await drained.pair.durable_items() == {"a", "z"}
    assert await drained.version() == newer


async def test_an_unknown_entitlement_is_fetched_first(drained: Shipped) -> None:
    """A FLUSHALL, then a sign-in that saved no facts: durable's are fetched before the push."""
    await drained.add_person("a")
    await drained.pair.local.flushall()
    await drained.pair.save_login(entitled=None)
    await drained.pair.local.sadd(SET, "b")
    await drained.settle()

    assert await drained.pair.local_items() == await drained.pair.durable_items() == {"a", "b"}
    assert await drained.pair.local.smembers(keys.sponsors("maintainer")) == {str(PERSON)}


async def test_facts_from_after_a_flush_are_completed_first(drained: Shipped) -> None:
    """Durable has an administrator's override, which facts saved after the flush lack."""
    override = Grant(source=EntitlementSource.OVERRIDE, since=datetime.now(UTC), until=None)
    entitlements = EntitlementStore(
        drained.pair.local_store,
        drained.pair.people,
        catalog=CATALOG,
        fetcher=drained.pair.engine.hydrator,
    )
    await drained.pair.sign_in(entitled=False)
    await entitlements.change(
        SPONSORABLE, PERSON, lambda facts: facts and replace(facts, grants=(override,)), by="test"
    )
    await drained.pair.add("a")
    await drained.settle()
    await drained.pair.local.flushall()
    await drained.pair.save_login(entitled=False)
    await drained.settle()

    entitlement = keys.sponsorship(SPONSORABLE, PERSON)
    here, there = (
        await drained.pair.local.hgetall(entitlement),
        await drained.pair.durable.hgetall(entitlement),
    )
    assert here == there
    assert ("partial" in here, here.get("also_until")) == (False, "never")
    assert await drained.pair.durable.sismember(keys.sponsors(SPONSORABLE), str(PERSON))
    assert await drained.pair.items() == ["a"]
    assert await drained.no_registration_failed()


async def test_a_lost_set_is_not_sent_as_an_empty_one(drained: Shipped) -> None:
    """The person is sent because of another change; the lost set is unknown."""
    await drained.add_person("a")
    await drained.pair.evict()
    await drained.add_person()

    assert await drained.pair.durable_items() == {"a"}
    assert await drained.pair.items() == ["a"]


async def test_the_drain_prunes_the_copy_after_a_lapse_and_never_extends_it(
    drained: Shipped,
) -> None:
    """Items removed after the lapse are removed on durable too; added items stay on local."""
    await drained.add_person("a", "b")
    await drained.pair.lapse()
    await drained.settle()
    await drained.pair.local.srem(SET, "a")
    await drained.pair.local.sadd(SET, "c")
    await drained.settle()

    assert await drained.pair.durable_items() == {"b"}
    await drained.add_person()
    assert await drained.pair.durable_items() == {"b", "c"}


async def test_a_person_that_durable_refuses_is_a_dead_letter_and_delays_no_other(
    drained: Shipped,
) -> None:
    """Others in the batch are sent; once the key is right, the service's sweep sends the person."""
    await drained.hold_drain()
    await drained.pair.add_person("a")
    await drained.pair.sign_in(OTHER)
    await drained.pair.durable.set(SET, "foreign")
    await drained.release_drain()
    await until(lambda: drained.pair.local.hexists(keys.DEAD_LETTERS, str(PERSON)))
    await _wait_for_empty_outbox(drained)
    record = json.loads(await drained.pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")
    assert record["reason"].startswith(f"WRONGTYPE {SET} holds a string")
    assert await drained.pair.durable.exists(keys.user_details(OTHER)) == 1
    assert await drained.pair.dirty() == {PERSON}

    await drained.pair.durable.delete(SET)
    await drained.pair.settle()
    assert await drained.pair.durable_items() == {"a"}
    assert await drained.pair.local.hlen(keys.DEAD_LETTERS) == 0


async def _wait_for_empty_outbox(drained: Shipped) -> None:
    await until_equal(lambda: drained.pair.local.xlen(keys.OUTBOX), 0)


async def test_a_person_who_cannot_be_packed_is_a_dead_letter(drained: Shipped) -> None:
    """The profile is a wrong-type key on local, so the record cannot be made."""
    await drained.add_person()
    await drained.hold_drain()
    await drained.pair.add("a")
    await drained.pair.local.set(keys.user_details(PERSON), "foreign")
    await drained.pair.sign_in(OTHER)
    await drained.release_drain()
    await until(lambda: drained.pair.local.hexists(keys.DEAD_LETTERS, str(PERSON)))
    await _wait_for_empty_outbox(drained)
    assert await drained.pair.durable.exists(keys.user_details(OTHER)) == 1


async def test_an_entry_that_was_removed_meanwhile_stops_no_other(drained: Shipped) -> None:
    """The deleted entry has no fields; its person stays dirty, and the sweep sends them."""
    await drained.hold_drain()
    await drained.pair.sign_in()
    await until(drained.drain_waits)
    await drained.pair.sign_in(OTHER)
    entries: Any = await drained.pair.local.xrange(keys.OUTBOX)
    await drained.pair.local.xdel(keys.OUTBOX, entries[0][0])
    await drained.release_drain()
    await until_equal(drained.drain_waits, expected=False)
    # RedisGears reads the removed entry in place of the other, which it reads with the next.
    await drained.pair.sign_in(OTHER + 1)
    await _wait_for_empty_outbox(drained)

    assert await drained.pair.durable.exists(keys.user_details(OTHER)) == 1
    assert await drained.pair.dirty() == {PERSON}
    await drained.pair.relay()
    assert await drained.pair.durable.exists(keys.user_details(PERSON)) == 1


@pytest.mark.parametrize("server", ["local", "durable"])
async def test_nothing_is_sent_before_the_servers_are_compared(
    drained: Shipped, server: str
) -> None:
    """The changed incarnation means that the server may have restarted in an older state."""
    await drained.add_person()
    await drained.pair.local.hset(keys.INCARNATIONS, server, ANOTHER_INCARNATION)
    # This ends the connections of the scripts, as a restart does.
    await point_at(drained.gears, environment_for(drained.gears.durable_url))
    before = await drained.pair.durable.get(keys.APPLIED)
    await drained.pair.add("a")
    await until(drained.drain_waits)

    assert await drained.pair.durable.get(keys.APPLIED) == before
    assert await drained.pair.dirty() == {PERSON}
    assert b"is being compared" in (await drained.registration("sponsorsync drain"))["lastError"]
    await drained.release_drain()
    await drained.settle()
    assert await drained.pair.durable_items() == {"a"}


async def test_a_flushed_durable_gets_all_people_again(drained: Shipped) -> None:
    """Durable's count of applied records went back, so it was flushed."""
    for person in (PERSON, OTHER):
        await drained.pair.add_person("a", person_id=person)
    await drained.settle()
    await drained.pair.durable.flushall()
    await drained.pair.local.sadd(SET, "b")
    await drained.settle()

    assert await drained.pair.durable_items() == {"a", "b"}
    assert await drained.pair.durable_items(OTHER) == {"a"}


async def test_a_change_during_the_drain_is_sent_again(drained: Shipped) -> None:
    """Durable's answer confirms only the record from before the change."""
    await drained.add_person()
    async with run_proxy(_port_of(drained.gears)) as proxy:
        await point_at(drained.gears, environment_for(f"redis://127.0.0.1:{proxy.port}/0"))
        before = proxy.round_trips
        proxy.stall()
        await drained.pair.add("a")

        async def is_under_way() -> bool:
            await drained.pair.add("b")
            await drained.pair.remove("b")
            return bool(await drained.pair.local.xlen(keys.OUTBOX))

        await until(is_under_way)
        await drained.pair.add("c")
        proxy.flow()
        await drained.settle()

    assert proxy.round_trips > before
    assert await drained.pair.durable_items() == {"a", "c"}


def _port_of(gears: Gears) -> int:
    return int(environment_for(gears.durable_url)["REDISENT_PORT"])


async def test_a_copy_that_cannot_be_pruned_delays_no_other(drained: Shipped) -> None:
    """A wrong-type key on durable must not be taken for an outage of durable."""
    for person in (PERSON, OTHER):
        await drained.pair.add_person("a", "b", person_id=person)
    await drained.settle()
    await drained.pair.durable.set(SET, "foreign")
    await drained.pair.lapse()
    await drained.pair.add("c", person_id=OTHER)
    await until_equal(drained.pair.dirty, {PERSON})
    assert await drained.pair.durable_items(OTHER) == {"a", "b", "c"}
    assert "WRONGTYPE" in str(await drained.pair.local.hget(keys.DEAD_LETTERS, str(PERSON)))


@asynccontextmanager
async def _run_drained(gears: Gears, own: OwnServer) -> AsyncIterator[Shipped]:
    async with run_shipped(gears, own.url) as opened:
        await opened.upload("write_behind", constants=SHORT)
        yield opened


async def _is_clean(drained: Shipped) -> bool:
    """Lets the service compare the servers; returns whether all people are sent."""
    await drained.pair.compare()
    return await drained.is_settled()


# A durable that loads its data would take many time-outs here.
OUTAGES = [each for each in DURABLE_OUTAGES if each is not be_loading]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_durables_outage_makes_no_dead_letter_in_the_drain(
    outage: Outage, own: OwnServer, gears: Gears
) -> None:
    """An outage is no fault of a person's data; the drain retries by itself."""
    async with _run_drained(gears, own) as drained, open_admin(own) as admin:
        await fill_with_ballast(admin)
        await drained.add_person("a")
        async with outage(own, admin):
            await drained.pair.local.sadd(SET, "b")
            await drained.pair.save_login(OTHER)
            await until(drained.drain_waits, limit_s=LIMIT_S)
            assert await drained.pair.local.hlen(keys.DEAD_LETTERS) == 0
            assert await drained.pair.dirty() == {PERSON, OTHER}
        await until(lambda: _is_clean(drained), limit_s=LIMIT_S)

        assert await drained.pair.durable_items() == {"a", "b"}
        assert await drained.pair.durable.exists(keys.user_details(OTHER)) == 1
        assert await drained.pair.local.hlen(keys.DEAD_LETTERS) == 0


async def test_the_drain_reports_an_outage_and_waits(own: OwnServer, gears: Gears) -> None:
    """The error of the registration does not show durable's address."""
    async with (
        _run_drained(gears, own) as drained,
        open_admin(own) as admin,
        refuse_connections(own, admin),
    ):
        await drained.pair.save_login()
        await until(drained.drain_waits)
        data = await drained.registration("sponsorsync drain")

    assert b"DurableDownError" in data["lastError"]
    assert str(own.port).encode() not in data["lastError"]


async def test_the_drain_waits_without_an_address_of_durable(drained: Shipped) -> None:
    """Without REDISENT_HOST the registration shows an error, and entries stay in the outbox."""
    await point_at(drained.gears, {})
    await drained.pair.save_login()
    await until(drained.drain_waits)
    assert b"REDISENT_HOST" in (await drained.registration("sponsorsync drain"))["lastError"]

    await point_at(drained.gears, environment_for(drained.gears.durable_url))
    await drained.settle()
    assert await drained.pair.durable.exists(keys.user_details(PERSON)) == 1
