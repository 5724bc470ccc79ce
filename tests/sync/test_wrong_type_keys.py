"""A key of another Redis type stops only one person, and no script fails half-way."""

import json
import time
from collections.abc import Awaitable, Callable

import pytest

from sponsorsync.domain.account import NO_VERSION
from sponsorsync.domain.errors import StoreConflictError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from tests.support.sync import COLLECTION, PERSON, Pair, dump_all

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
META = keys.meta(PERSON)
FACTS = keys.sponsorship("maintainer", PERSON)
PROFILE = keys.user_details(PERSON)
INDEX = keys.sponsors("maintainer")
PARTS = [SET, META, FACTS, PROFILE]
WAITING = [keys.DIRTY, keys.OUTBOX, keys.PEOPLE]


async def _add(pair: Pair) -> None:
    await pair.add("c")


async def _login(pair: Pair) -> None:
    await pair.save_login(version=NO_VERSION)


async def _delete(pair: Pair) -> None:
    await pair.people.delete_account(PERSON)


@pytest.mark.parametrize("key", PARTS)
async def test_a_wrong_type_key_on_durable_makes_one_dead_letter_until_it_is_gone(
    pair: Pair, key: str
) -> None:
    """The dead letter is retried only when it is due; other people are sent meanwhile."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.durable.set(key, "foreign")
    for person in (PERSON, OTHER):
        await pair.add("b", person_id=person)
    await pair.relay()

    assert await pair.durable_items(OTHER) == {"a", "b"}
    assert await pair.dirty() == {PERSON}
    record = json.loads(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")
    assert key in record["reason"]
    assert "WRONGTYPE" in record["reason"]
    assert record["next_try"] > time.time()
    assert await pair.durable.get(key) == "foreign"

    await pair.durable.delete(key)
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.dirty() == {PERSON}  # the retry is not due yet
    record["next_try"] = 0
    await pair.local.hset(keys.DEAD_LETTERS, str(PERSON), json.dumps(record))
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.durable_items() == {"a", "b"}
    assert await pair.dirty() == set()
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 0


@pytest.mark.parametrize("key", PARTS)
async def test_a_wrong_type_key_on_local_makes_one_dead_letter_until_it_is_gone(
    pair: Pair, key: str
) -> None:
    """The person is sent once the key is right again; other people are sent meanwhile."""
    for person in (PERSON, OTHER):
        await pair.add_person("a", person_id=person)
    await pair.local.rename(key, "aside")
    await pair.local.set(key, "foreign")
    await pair.relay()

    assert await pair.durable_items(OTHER) == {"a"}
    assert await pair.dirty() == {PERSON}
    assert key in (await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")

    await pair.local.rename("aside", key)
    await pair.local.hset(
        keys.DEAD_LETTERS,
        str(PERSON),
        json.dumps({"next_try": 0, "reason": "", "since": 0, "tries": 1}),
    )
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.durable_items() == {"a"}
    assert await pair.dirty() == set()


async def test_a_wrong_type_key_that_stops_a_fetch_makes_one_dead_letter(pair: Pair) -> None:
    """The relay has to fetch the person first, and cannot; other people are fetched."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.local.flushall()
    await pair.durable.set(SET, "foreign")
    for person in (PERSON, OTHER):
        await pair.save_login(person, entitled=None)
    await pair.relay()

    assert await pair.dirty() == {PERSON}
    assert await pair.local_items(OTHER) == {"a"}
    assert SET in (await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")
    assert await pair.local.exists(keys.lease(PERSON)) == 0


async def test_a_wrong_type_key_of_one_person_does_not_stop_the_ends_of_others(pair: Pair) -> None:
    """One script ends the entitlements of many people."""
    for person in (PERSON, OTHER):
        await pair.sign_in(person)
        await pair.relay()
        await pair.local.hset(keys.sponsorship("maintainer", person), "valid_until", "1")
        await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{person}": 1})
    await pair.local.set(FACTS, "foreign")
    await pair.engine._sweep()

    assert str(OTHER) not in await pair.local.smembers(INDEX)
    assert await pair.local.zcard(keys.ENTITLEMENT_ENDS) == 0


SESSIONS = keys.sessions(PERSON)
LOCAL_CASES = [
    *((_add, key) for key in (SET, META, *WAITING)),
    *((_login, key) for key in (*PARTS, INDEX, SESSIONS, *WAITING, keys.ENTITLEMENT_ENDS)),
    *((_delete, key) for key in (META, SESSIONS, INDEX, *WAITING, keys.ENTITLEMENT_ENDS)),
]


@pytest.mark.parametrize(("act", "key"), LOCAL_CASES)
async def test_a_wrong_type_key_on_local_leaves_nothing_half_done(
    pair: Pair, act: Callable[[Pair], Awaitable[None]], key: str
) -> None:
    """Scripts check the type of every key before their first write."""
    await pair.add_person("a", "b", entitled=False)
    await pair.local.set(key, "foreign")
    before = await dump_all(pair.local_store)

    with pytest.raises(StoreConflictError):
        await act(pair)

    assert await dump_all(pair.local_store) == before


@pytest.mark.parametrize("key", [SET, FACTS, PROFILE])
async def test_a_deletion_leaves_wrong_type_keys_alone(pair: Pair, key: str) -> None:
    """A key of another type belongs to another program; our keys are removed on both servers."""
    await pair.settle("a")
    parts = {SET, FACTS, PROFILE} - {key}
    await pair.local.set(key, "foreign")
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.local.get(key) == "foreign"
    assert await pair.local.exists(*parts) == 0
    assert await pair.durable.exists(key, *parts) == 0
    assert await pair.dirty() == set()


async def test_a_deletion_leaves_wrong_type_keys_on_durable_alone(pair: Pair) -> None:
    """The record of a deletion names no keys, so durable has to check their types."""
    await pair.settle("a")
    await pair.durable.set(SET, "foreign")
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.durable.get(SET) == "foreign"
    assert await pair.durable.exists(PROFILE) == 0


@pytest.mark.parametrize(
    "key", [*PARTS, keys.pending(PERSON), INDEX, *WAITING, keys.ENTITLEMENT_ENDS]
)
async def test_a_fill_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str
) -> None:
    """The script checks the type of every key before it writes fetched data."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.local.hset(keys.pending(PERSON), f"{COLLECTION}\nc", "+")
    await pair.local.set(key, "foreign")
    content = await pair.read_for_fetch("token")
    before = await dump_all(pair.local_store)

    assert (await pair.fill("token", content)).startswith("WRONGTYPE")
    assert await dump_all(pair.local_store) == before


@pytest.mark.parametrize("key", [*PARTS, INDEX, keys.PEOPLE, keys.ENTITLEMENT_ENDS, keys.LAPSED])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_an_apply_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str, *, is_deleted: bool
) -> None:
    """Only durable's count of applied records changes."""
    await pair.settle("a")
    if is_deleted:
        await pair.people.delete_account(PERSON)
    await pair.add_person("b")
    records = await pair.pack()
    await pair.durable.set(key, "foreign")
    before = await _dump_durable(pair.durable_store)
    answers = await pair.apply(records)

    assert answers[0][1].startswith("WRONGTYPE")
    assert await _dump_durable(pair.durable_store) == before


async def test_a_copy_that_cannot_be_pruned_is_a_dead_letter(pair: Pair) -> None:
    """A failed pruning once ended the drain of all other people in the batch."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.durable.set(SET, "foreign")
    await pair.lapse()
    await pair.add("b", person_id=OTHER)
    await pair.engine.relay.drain([PERSON, OTHER])

    assert await pair.dirty() == {PERSON}
    assert await pair.durable_items(OTHER) == {"a", "b"}
    assert "WRONGTYPE" in str(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)))


@pytest.mark.parametrize("key", [SET, META, keys.PEOPLE])
async def test_a_pruning_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str
) -> None:
    """The script checks the type of every key before its first write."""
    await pair.settle("a", "b")
    await pair.durable.set(key, "foreign")
    before = await _dump_durable(pair.durable_store)
    with pytest.raises(StoreConflictError):
        await pair.durable_store.run_script("prune", PERSON, COLLECTION, 2**53, "a")

    assert await _dump_durable(pair.durable_store) == before


async def _dump_durable(durable: RedisStore) -> dict[bytes, bytes]:
    dumps = await dump_all(durable)
    dumps.pop(keys.APPLIED.encode(), None)
    return dumps
