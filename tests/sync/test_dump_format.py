"""Records hold DUMP payloads if the other server can RESTORE them, and plain values otherwise."""

from collections.abc import AsyncIterator
from typing import cast

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from sponsorsync.store.connect import create_store
from sponsorsync.sync.dump_format import can_read_dumps
from sponsorsync.sync.person_records import PersonRecord, pack_people
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair, dump_all, open_pair

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
    """A pair that sends dumps, then one that sends values because its users may not RESTORE."""
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
        is_dump = request.param == "dumps"
        assert incarnations.can_dump_to_durable is incarnations.can_dump_to_local is is_dump
        yield opened
    for client in (local, durable):
        await client.acl_deluser("plain")


async def test_servers_of_one_kind_read_each_others_dumps(pair: Pair) -> None:
    """The check restores a dump under a temporary key, and removes this key again."""
    assert await can_read_dumps(pair.durable_store, pair.local_store)
    assert await can_read_dumps(pair.local_store, pair.durable_store)
    assert await pair.local.exists(keys.DUMP_PROBE) == 0
    assert await pair.durable.exists(keys.DUMP_PROBE) == 0


async def test_a_server_that_refuses_writes_gets_values(
    pair: Pair, durable_server: EmbeddedValkey
) -> None:
    """A server that is out of memory cannot restore the trial dump; the service starts anyway."""
    await pair.durable.config_set("maxmemory", "1")
    store = create_store(SecretStr(durable_server.url), name="durable", pool_size=1)
    try:
        assert not await can_read_dumps(store, pair.local_store)
    finally:
        await pair.durable.config_set("maxmemory", "0")
        await store.aclose()


async def test_all_kinds_of_values_reach_durable_unchanged(either: Pair) -> None:
    """The data are a profile, an entitlement, sets of text and numbers, and bytes not in UTF-8."""
    other = PERSON + 1
    await either.add_person("a", "b", "ü")
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
    """The size of the set comes back too; by it, writes of other programs are detected."""
    await either.settle("a", "b")
    size = await either.local.hget(keys.meta(PERSON), f"n:{COLLECTION}")
    profile = await either.local.hgetall(PROFILE)
    await either.local.flushall()

    assert await either.items() == ["a", "b"]
    assert await either.local.hget(keys.meta(PERSON), f"n:{COLLECTION}") == size == "2"
    assert await either.local.hgetall(PROFILE) == profile
    assert await either.local.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await either.dirty() == set()
    assert (await either.engine.verifier.run()).agrees


async def test_ten_thousand_items_are_sent_fetched_and_removed(either: Pair) -> None:
    """Lua's `unpack` returns at most some 8,000 values, so scripts have to work in chunks."""
    many = [f"item-{number}" for number in range(10_000)]
    await either.settle(*many)
    assert await either.durable_items() == set(many)
    await either.evict()
    assert await either.items() == sorted(many)
    await either.local.flushall()
    assert len(await either.items()) == 10_000
    await either.remove(*many[1:])
    await either.relay()

    assert await either.durable_items() == {many[0]}


async def test_a_foreign_write_is_merged_with_fetched_data(either: Pair) -> None:
    """A dump is first restored under a temporary key, which is removed after the merge."""
    await either.settle("a")
    await either.local.flushall()
    await either.local.sadd(SET, "b")

    assert await either.items() == ["a", "b"]
    assert await either.local.keys("*unpacked*") == []


async def test_an_emptied_set_replaces_the_full_one_on_durable(either: Pair) -> None:
    """Redis deletes an empty set, and DUMP of a missing key returns nothing."""
    await either.settle("a")
    await either.remove("a")
    await either.relay()

    assert await either.durable_items() == set()
    assert await either.durable.hget(keys.meta(PERSON), f"p:{COLLECTION}") == "0"
    await either.local.flushall()
    assert await either.items() == []
    assert await either.local.hget(keys.meta(PERSON), f"p:{COLLECTION}") == "0"


async def test_a_changed_entitlement_updates_durables_indexes(either: Pair) -> None:
    """A script cannot read a dump, so source and end of the entitlement are sent beside it."""
    await either.settle("a", entitled=True)
    assert await either.durable.sismember(keys.sponsors("maintainer"), str(PERSON))
    await either.lapse()
    await either.relay()

    assert not await either.durable.sismember(keys.sponsors("maintainer"), str(PERSON))
    assert await either.durable.zscore(keys.LAPSED, str(PERSON)) is not None


@pytest.mark.parametrize("key", [PROFILE, FACTS, SET])
async def test_a_wrong_type_key_of_a_new_person_undoes_the_apply(either: Pair, key: str) -> None:
    """Keys that the apply restored before it met the wrong-type key are removed again."""
    await either.add_person("a")
    await either.durable.set(key, "foreign")
    before = await dump_all(either.durable_store)
    answers = await either.apply(await _pack(either))

    assert answers[0][1].startswith("WRONGTYPE")
    after = await dump_all(either.durable_store)
    after.pop(keys.APPLIED.encode())
    assert after == before


async def test_a_set_without_metadata_on_durable_is_replaced(either: Pair) -> None:
    """Without metadata the set on durable has no version, so the incoming set replaces it."""
    await either.add_person("a")
    await either.durable.sadd(SET, "old")
    await either.relay()

    assert await either.durable_items() == {"a"}


async def test_a_deletion_reaches_an_empty_durable(either: Pair) -> None:
    """The record of a deletion holds only the version of the deletion."""
    await either.sign_in()
    await either.people.delete_account(PERSON)
    await either.relay()

    assert await either.durable.hget(keys.meta(PERSON), "x") is not None
    assert await either.dirty() == set()


async def _pack(pair: Pair) -> list[PersonRecord]:
    return await pack_people(
        pair.local_store,
        [PERSON],
        what="entitled",
        catalog=CATALOG,
        as_dumps=pair.engine.incarnations.can_dump_to_durable,
    )
