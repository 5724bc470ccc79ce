"""Parts travel as dumps where both servers can read each other's, and as values elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from pydantic import SecretStr

from sponsorsync.store import keys
from sponsorsync.store.connect import create_store
from sponsorsync.sync.dump_format import can_read_dumps
from sponsorsync.sync.person_records import apply_records, pack_people
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair, dump_all, open_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.sync.person_records import PersonRecord

SET = keys.preferences(PERSON, COLLECTION)
FACTS = keys.sponsorship("maintainer", PERSON)
PROFILE = keys.user_details(PERSON)


@pytest.fixture(params=["dumps", "values"])
async def either(
    request: pytest.FixtureRequest,
    local_server: EmbeddedValkey,
    durable_server: EmbeddedValkey,
    local: Redis,
    durable: Redis,
) -> AsyncIterator[Pair]:
    """A pair that speaks dumps; and one whose users may not restore any, so that it does not."""
    address = "redis://{}127.0.0.1:{}/0"
    user = "" if request.param == "dumps" else "plain:secret@"
    for client in (local, durable):
        await client.acl_setuser(
            "plain",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            channels=["*"],
            commands=["+@all", "-restore"],
        )
    urls = (address.format(user, each.port) for each in (local_server, durable_server))
    async with open_pair(*urls) as opened:
        incarnations = opened.engine.incarnations
        expected = request.param == "dumps"
        assert (incarnations.can_dump_to_durable, incarnations.can_dump_to_local) == (
            expected,
            expected,
        )
        yield opened
    for client in (local, durable):
        await client.acl_deluser("plain")


async def test_two_servers_of_one_kind_read_each_others_dumps(pair: Pair) -> None:
    """Nothing is left of the trial."""
    assert await can_read_dumps(pair.durable_store, pair.local_store)
    assert await can_read_dumps(pair.local_store, pair.durable_store)
    assert await pair.local.exists(keys.DUMP_PROBE) == 0
    assert await pair.durable.exists(keys.DUMP_PROBE) == 0


async def test_a_server_that_takes_no_writes_is_spoken_to_in_values(
    pair: Pair, durable_server: EmbeddedValkey
) -> None:
    """That it is out of memory at the moment is no reason not to start."""
    await pair.durable.config_set("maxmemory", "1")
    store = create_store(SecretStr(durable_server.url), name="durable", pool_size=1)
    try:
        assert not await can_read_dumps(store, pair.local_store)
    finally:
        await pair.durable.config_set("maxmemory", "0")
        await store.aclose()


async def test_everything_arrives_as_it_is(either: Pair) -> None:
    """Profile, entitlement, a set of text and one of numbers, and what is not UTF-8."""
    other = PERSON + 1
    await either.sign_in()
    await either.add("a", "b", "ü")
    await either.sign_in(other)
    await either.add("1", "2", "3", person_id=other)
    await either.local_store.run("SADD", SET, b"\xff\x00\n")
    await either.local_store.run_script("mark_foreign", PERSON, COLLECTION, "sadd")
    await either.relay()

    summary = await either.engine.verifier.run()
    assert (summary.agrees, summary.equal) == (True, 2)
    there = cast("set[bytes]", await either.durable_store.run("SMEMBERS", SET))
    assert there == {b"a", b"b", "ü".encode(), b"\xff\x00\n"}


async def test_dumps_restore_everything(either: Pair) -> None:
    """Also the recorded size of the set, by which a foreign write is detected."""
    await either.settle("a", "b")
    noted = await either.local.hget(keys.meta(PERSON), f"n:{COLLECTION}")
    profile = await either.local.hgetall(PROFILE)
    await either.local.flushall()

    assert await either.items() == ["a", "b"]
    assert await either.local.hget(keys.meta(PERSON), f"n:{COLLECTION}") == noted == "2"
    assert await either.local.hgetall(PROFILE) == profile
    assert (await either.engine.verifier.run()).agrees


async def test_a_set_of_more_members_than_lua_can_unpack_travels(either: Pair) -> None:
    """There and back."""
    items = [f"item-{number}" for number in range(9000)]
    await either.settle(*items)
    await either.evict()

    assert await either.items() == sorted(items)


async def test_a_foreign_write_is_merged_with_fetched_data(either: Pair) -> None:
    """Also in the form of a dump; the temporary key is removed."""
    await either.settle("a")
    await either.local.flushall()
    await either.local.sadd(SET, "b")

    assert await either.items() == ["a", "b"]
    assert await either.local.keys("*unpacked*") == []


async def test_an_empty_set_takes_the_place_of_one_that_was_full(either: Pair) -> None:
    """There is no dump of what is not there."""
    await either.settle("a")
    await either.remove("a")
    await either.relay()

    assert await either.durable_items() == set()
    await either.local.flushall()
    assert await either.items() == []


async def test_a_new_entitlement_takes_the_place_of_the_old_one_in_the_indexes(
    either: Pair,
) -> None:
    """Source and end are taken from beside the dump."""
    await either.sign_in(entitled=True)
    await either.add("a")
    await either.relay()
    assert await either.durable.sismember(keys.sponsors("maintainer"), str(PERSON))
    await either.lapse()
    await either.relay()

    assert not await either.durable.sismember(keys.sponsors("maintainer"), str(PERSON))
    assert await either.durable.zscore(keys.LAPSED, str(PERSON)) is not None


@pytest.mark.parametrize("key", [PROFILE, FACTS, SET])
async def test_a_foreign_key_in_the_way_of_somebody_new_leaves_nothing_half_done(
    either: Pair, key: str
) -> None:
    """What was restored before it was met is gone again."""
    await either.sign_in()
    await either.add("a")
    await either.durable.set(key, "foreign")
    before = await dump_all(either.durable_store)
    answers = await apply_records(either.durable_store, await _export(either), catalog=CATALOG)

    assert answers[0][1].startswith("WRONGTYPE")
    after = await dump_all(either.durable_store)
    after.pop(keys.APPLIED.encode())
    assert after == before


async def test_an_own_key_that_nobody_noted_gives_way(either: Pair) -> None:
    """Durable's meta was lost, and its data were not: what comes is what counts."""
    await either.sign_in()
    await either.add("a")
    await either.durable.sadd(SET, "old")
    await either.relay()

    assert await either.durable_items() == {"a"}


async def test_a_deletion_reaches_a_durable_that_knows_nobody(either: Pair) -> None:
    """The record holds only its version."""
    await either.sign_in()
    await either.people.delete_account(PERSON)
    await either.relay()

    assert await either.durable.hget(keys.meta(PERSON), "x") is not None
    assert await either.dirty() == set()


async def _export(pair: Pair) -> list[PersonRecord]:
    return await pack_people(
        pair.local_store,
        [PERSON],
        what="entitled",
        catalog=CATALOG,
        as_dumps=pair.engine.incarnations.can_dump_to_durable,
    )
