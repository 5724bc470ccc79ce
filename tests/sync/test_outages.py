"""What a server says when it cannot serve buries nobody; what it says of data buries only one."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sponsorsync import background
from sponsorsync.background import open_supervisor
from sponsorsync.domain.account import NO_VERSION
from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.sync import engine as engine_module
from sponsorsync.sync import listener as listener_module
from sponsorsync.sync.person_records import apply_records, pack_people
from tests.support.outages import (
    DURABLE_OUTAGES,
    OUTAGES,
    be_out_of_memory,
    fill_with_ballast,
    open_admin,
    refuse_connections,
)
from tests.support.sync import (
    CATALOG,
    COLLECTION,
    PERSON,
    OwnServer,
    Pair,
    dump_all,
    open_pair,
    own_server,
    running_engine,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import RedisStore
    from tests.support.outages import Outage

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
META = keys.meta(PERSON)
FACTS = keys.sponsorship("maintainer", PERSON)
LOOPS = {"incarnations", "sweep", "retention", "relay", "listener", "notifications"}


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A server that may be spoiled."""
    async with own_server(tmp_path / "own") as server:
        yield server


@pytest.fixture
async def admin(own: OwnServer) -> AsyncIterator[Redis]:
    """An operator's connection to it, who stays permitted whatever happens."""
    async with open_admin(own) as client:
        yield client


@pytest.mark.parametrize("outage", DURABLE_OUTAGES)
async def test_durables_outage_makes_no_dead_letter_and_loses_nothing(
    outage: Outage, own: OwnServer, admin: Redis, local_server: EmbeddedValkey, local: Redis
) -> None:
    """No data are at fault; afterwards both servers are equal."""
    await fill_with_ballast(admin)
    async with open_pair(local_server.url, own.url) as pair:
        await pair.settle("a")
        async with outage(own, admin):
            await pair.add("b")
            await pair.save_login(OTHER)
            with pytest.raises(StoreUnavailableError, match="durable"):
                await pair.engine.relay.drain([OTHER])
            assert await local.hlen(keys.DEAD_LETTERS) == 0
            assert await pair.dirty() == {PERSON, OTHER}
        await pair.relay_when_back()

        assert await pair.kept() == {"a", "b"}
        assert await pair.durable.exists(keys.user_details(OTHER)) == 1
        assert await local.hlen(keys.DEAD_LETTERS) == 0


async def _add(pair: Pair) -> None:
    await pair.add("c")


async def _login(pair: Pair) -> None:
    await pair.save_login(version=NO_VERSION)


async def _first_login(pair: Pair) -> None:
    await pair.save_login(OTHER, version=NO_VERSION)


async def _delete(pair: Pair) -> None:
    await pair.people.delete_account(PERSON)


# Out of memory, a server goes on with a script that began by removing something.
LOCAL_OUTAGES = [(outage, _add) for outage in OUTAGES] + [
    (outage, write)
    for outage in OUTAGES
    for write in (_first_login, _delete)
    if outage is not be_out_of_memory
]


@pytest.mark.parametrize(("outage", "write"), LOCAL_OUTAGES)
async def test_locals_outage_is_reported_and_leaves_nothing_half_done(
    outage: Outage,
    write: Callable[[Pair], Awaitable[None]],
    own: OwnServer,
    admin: Redis,
    durable_server: EmbeddedValkey,
    durable: Redis,
) -> None:
    """A writer gets an error that names local and the reason; nothing was written."""
    assert await durable.ping()
    await fill_with_ballast(admin)
    async with open_pair(own.url, durable_server.url) as pair:
        await pair.settle("a")
        before = await dump_all(pair.local_store)
        async with outage(own, admin):
            with pytest.raises(StoreUnavailableError, match="local Redis") as refusal:
                await write(pair)
            assert refusal.value.retry_after_s > 0
        await until(lambda: _is_compared(pair))

        incarnation = keys.INCARNATIONS.encode()  # names the incarnation, which may be another
        after = await dump_all(pair.local_store)
        assert {**after, incarnation: b""} == {**before, incarnation: b""}
        await pair.add("d")
        await pair.relay()
        assert await pair.kept() == {"a", "d"}


async def _is_compared(pair: Pair) -> bool:
    with suppress(StoreUnavailableError):
        await pair.compare()
        return True
    return False


@pytest.fixture
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that try again sooner than those of a service."""
    for module, constants in (
        (engine_module, ("_REST_S", "_SWEEP_S", "_WATCH_S")),
        (listener_module, ("_REST_S",)),
        (background, ("_BACKOFF_FIRST_S",)),
    ):
        for name in constants:
            monkeypatch.setattr(module, name, 0.1)


@pytest.mark.usefixtures("short_rests")
@pytest.mark.parametrize("outage", DURABLE_OUTAGES)
async def test_the_engine_goes_on_by_itself_after_durables_outage(
    outage: Outage, own: OwnServer, admin: Redis, local_server: EmbeddedValkey, local: Redis
) -> None:
    """It does not end, and detects by itself that durable is back."""
    assert await local.ping()
    await fill_with_ballast(admin)
    async with open_pair(local_server.url, own.url) as pair, running_engine(pair) as engine:
        async with outage(own, admin):
            await pair.save_login()
            await until(lambda: _has_met_an_outage(pair))
        await until(lambda: _is_clean(pair))

        assert await pair.durable.exists(keys.user_details(PERSON)) == 1
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
@pytest.mark.parametrize("outage", [each for each in OUTAGES if each is not be_out_of_memory])
async def test_the_engine_goes_on_by_itself_after_locals_outage(
    outage: Outage, own: OwnServer, admin: Redis, durable_server: EmbeddedValkey, durable: Redis
) -> None:
    """Its loops all need local, and none of them ends."""
    assert await durable.ping()
    await fill_with_ballast(admin)
    async with open_pair(own.url, durable_server.url) as pair, running_engine(pair) as engine:
        await pair.sign_in()
        async with outage(own, admin):
            await until(lambda: _has_met_an_outage(pair))
        await until(lambda: _is_changed(pair))
        await until(lambda: _is_clean(pair))

        assert await pair.kept() == {"a"}
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
async def test_none_of_the_engines_loops_ends_with_an_outage(
    own: OwnServer, admin: Redis, durable_server: EmbeddedValkey, durable: Redis
) -> None:
    """Each logs that it waits, and goes on."""
    assert await durable.ping()
    async with open_pair(own.url, durable_server.url) as pair, running_engine(pair) as engine:
        await pair.sign_in()
        with capture_logs() as logs:

            async def have_all_said_so() -> bool:
                said = {entry["event"] for entry in logs}
                return said >= {
                    "relay_waits",
                    "comparison_waits",
                    "loop_waits",
                    "listener_rests",
                }

            async with refuse_connections(own, admin):
                await until(have_all_said_so)
        await until(lambda: _is_changed(pair))
        await until(lambda: _is_clean(pair))

        assert {loop.name for loop in engine.list_loops()} == LOOPS


async def test_a_start_is_no_outage(
    local_server: EmbeddedValkey,
    local: Redis,
    durable_server: EmbeddedValkey,
    durable: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gates are closed until the servers were compared, and the loops wait for that."""
    assert await local.ping()
    assert await durable.ping()

    async def has_group() -> bool:
        return bool(await local.exists(keys.OUTBOX))

    settings = Settings.model_construct(
        redis_url=SecretStr(local_server.url), durable_url=SecretStr(durable_server.url)
    )
    async with AsyncExitStack() as stack:
        engine = (await open_redis_pair(stack, settings)).engine
        assert engine is not None
        compare = engine.open

        async def compare_slowly() -> None:
            await asyncio.sleep(0.5)
            await compare()

        monkeypatch.setattr(engine, "open", compare_slowly)
        supervisor = await stack.enter_async_context(open_supervisor())
        engine.start(supervisor)
        await until(has_group)
        failures = [loop.failures for loop in supervisor.list_loops()]

    assert failures == [0] * len(LOOPS)
    assert engine.relay.counts.outages == 0


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_relay(pair: Pair) -> None:
    """An entry that it cannot read ended it for good, while the service said that it is ready."""

    async def has_failed() -> bool:
        return bool(relay.failures)

    async with running_engine(pair) as engine:
        [relay] = [loop for loop in engine.list_loops() if loop.name == "relay"]
        await pair.local.xadd(keys.OUTBOX, {"u": "no number"})
        await until(has_failed)
        failed = relay.status, relay.last_error
        await pair.sign_in()
        await until(lambda: _is_clean(pair))

    assert failed == ("failing", "ValueError")
    assert relay.failures == 1
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_sweep(pair: Pair) -> None:
    """It fails as long as what it cannot read is there, and takes the people afterwards."""

    async def has_failed() -> bool:
        return bool(sweep.failures)

    await pair.sign_in()
    await pair.local.delete(keys.OUTBOX)  # so nothing wakes the relay
    await pair.local.hset(keys.DEAD_LETTERS, str(OTHER), "no JSON")
    async with running_engine(pair) as engine:
        [sweep] = [loop for loop in engine.list_loops() if loop.name == "sweep"]
        await until(has_failed)
        failed = sweep.status, sweep.last_error
        await pair.local.delete(keys.DEAD_LETTERS)
        await until(lambda: _is_clean(pair))

    assert failed == ("failing", "JSONDecodeError")
    assert sweep.status == "running"


async def _has_met_an_outage(pair: Pair) -> bool:
    return pair.engine.relay.counts.outages > 0


async def _is_clean(pair: Pair) -> bool:
    return not await pair.dirty()


async def _is_changed(pair: Pair) -> bool:
    with suppress(StoreUnavailableError):
        await pair.add("a")
        return True
    return False


async def test_a_local_out_of_memory_still_answers_readers(
    own: OwnServer, admin: Redis, durable_server: EmbeddedValkey, durable: Redis
) -> None:
    """What is known there is read without a write."""
    assert await durable.ping()
    async with open_pair(own.url, durable_server.url) as pair:
        await pair.sign_in()
        await pair.add("a")
        async with be_out_of_memory(own, admin):
            assert await pair.items() == ["a"]


# ------------------------------------------------------------------ data of another kind

PARTS = [SET, META, FACTS, keys.user_details(PERSON)]


@pytest.mark.parametrize("key", PARTS)
async def test_a_wrong_type_key_on_durable_makes_one_dead_letter_until_it_is_gone(
    pair: Pair, key: str
) -> None:
    """It is tried again when it is due, not before; the others go on."""
    await pair.settle("a", people=(PERSON, OTHER))
    await _put_in_the_way(pair.durable, key)
    for person in (PERSON, OTHER):
        await pair.add("b", person_id=person)
    await pair.relay()

    assert await pair.kept(OTHER) == {"a", "b"}
    assert await pair.dirty() == {PERSON}
    record = json.loads(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")
    assert key in record["reason"]
    assert record["next_try"] > time.time()
    assert await pair.durable.get(key) == "foreign"

    await pair.durable.delete(key)
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.dirty() == {PERSON}  # it is not time yet
    record["next_try"] = 0
    await pair.local.hset(keys.DEAD_LETTERS, str(PERSON), json.dumps(record))
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.kept() == {"a", "b"}
    assert await pair.dirty() == set()
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 0


@pytest.mark.parametrize("key", PARTS)
async def test_a_wrong_type_key_on_local_makes_one_dead_letter_until_it_is_gone(
    pair: Pair, key: str
) -> None:
    """The same for a key of local."""
    for person in (PERSON, OTHER):
        await pair.sign_in(person)
        await pair.add("a", person_id=person)
    await pair.local.rename(key, "aside")
    await pair.local.set(key, "foreign")
    await pair.relay()

    assert await pair.kept(OTHER) == {"a"}
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
    assert await pair.kept() == {"a"}
    assert await pair.dirty() == set()


async def test_a_wrong_type_key_that_stops_a_fetch_makes_one_dead_letter(pair: Pair) -> None:
    """The fetch has to come before the drain; the others go on."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.local.flushall()
    await pair.durable.delete(SET)
    await pair.durable.set(SET, "foreign")
    for person in (PERSON, OTHER):
        await pair.save_login(person, entitled=None)
    await pair.relay()

    assert await pair.dirty() == {PERSON}
    assert await pair.here(OTHER) == {"a"}
    assert SET in (await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)) or "")
    assert await pair.local.exists(keys.lease(PERSON)) == 0


async def test_a_wrong_type_key_of_one_person_does_not_stop_the_ends_of_others(pair: Pair) -> None:
    """The sweep over the ends is one script for many people."""
    for person in (PERSON, OTHER):
        await pair.sign_in(person)
        await pair.relay()
        await pair.local.hset(keys.sponsorship("maintainer", person), "valid_until", "1")
        await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{person}": 1})
    await pair.local.delete(FACTS)
    await pair.local.set(FACTS, "foreign")
    await pair.engine._sweep()

    assert str(OTHER) not in await pair.local.smembers(keys.sponsors("maintainer"))
    assert await pair.local.zcard(keys.ENTITLEMENT_ENDS) == 0


# ------------------------------------------------------------------ nothing half done


LOCAL = {
    "a change": (
        _add,
        [SET, META, keys.DIRTY, keys.OUTBOX, keys.PEOPLE],
    ),
    "a login": (
        _login,
        [
            SET,
            META,
            FACTS,
            keys.user_details(PERSON),
            keys.sponsors("maintainer"),
            keys.sessions(PERSON),
            keys.DIRTY,
            keys.OUTBOX,
            keys.PEOPLE,
            keys.ENTITLEMENT_ENDS,
        ],
    ),
    "a deletion": (
        _delete,
        [
            META,
            keys.sessions(PERSON),
            keys.sponsors("maintainer"),
            keys.DIRTY,
            keys.OUTBOX,
            keys.PEOPLE,
            keys.ENTITLEMENT_ENDS,
        ],
    ),
}
LOCAL_CASES = [(action, key) for action, spoiled in LOCAL.values() for key in spoiled]


async def _put_in_the_way(client: Redis, key: str) -> None:
    await client.delete(key)
    await client.set(key, "foreign")


@pytest.mark.parametrize(("act", "key"), LOCAL_CASES)
async def test_a_wrong_type_key_on_local_leaves_nothing_half_done(
    pair: Pair, act: Callable[[Pair], Awaitable[None]], key: str
) -> None:
    """Scripts check every type before the first write; also for a person who joins."""
    await pair.sign_in(entitled=False)
    await pair.add("a", "b")
    await _put_in_the_way(pair.local, key)
    before = await dump_all(pair.local_store)

    with pytest.raises(StoreConflictError):
        await act(pair)

    assert await dump_all(pair.local_store) == before


@pytest.mark.parametrize("key", [SET, FACTS, keys.user_details(PERSON)])
async def test_a_deletion_leaves_wrong_type_keys_alone(pair: Pair, key: str) -> None:
    """They are not ours; all of our keys are removed, on both servers."""
    await pair.settle("a")
    parts = {SET, FACTS, keys.user_details(PERSON)} - {key}
    await _put_in_the_way(pair.local, key)
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.local.get(key) == "foreign"
    assert await pair.local.exists(*parts) == 0
    assert await pair.durable.exists(key, *parts) == 0
    assert await pair.dirty() == set()


async def test_a_deletion_leaves_wrong_type_keys_on_durable_alone(pair: Pair) -> None:
    """The record of a deletion says nothing of that key."""
    await pair.settle("a")
    await _put_in_the_way(pair.durable, SET)
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.durable.get(SET) == "foreign"
    assert await pair.durable.exists(keys.user_details(PERSON)) == 0


@pytest.mark.parametrize(
    "key",
    [
        SET,
        META,
        FACTS,
        keys.user_details(PERSON),
        keys.pending(PERSON),
        keys.sponsors("maintainer"),
        keys.DIRTY,
        keys.OUTBOX,
        keys.PEOPLE,
        keys.ENTITLEMENT_ENDS,
    ],
)
async def test_a_fill_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str
) -> None:
    """The same for data from durable."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.local.hset(keys.pending(PERSON), f"{COLLECTION}\nc", "+")
    await _put_in_the_way(pair.local, key)
    content = await pair.read_for_fetch("token")
    before = await dump_all(pair.local_store)

    assert (await pair.fill("token", content)).startswith("WRONGTYPE")
    assert await dump_all(pair.local_store) == before


@pytest.mark.parametrize(
    "key",
    [
        SET,
        META,
        FACTS,
        keys.user_details(PERSON),
        keys.sponsors("maintainer"),
        keys.PEOPLE,
        keys.ENTITLEMENT_ENDS,
        keys.LAPSED,
    ],
)
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_an_apply_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str, *, is_deleted: bool
) -> None:
    """The same on durable, except for its counter."""
    await pair.settle("a")
    if is_deleted:
        await pair.people.delete_account(PERSON)
    await pair.sign_in()
    await pair.add("b")
    records = await pack_people(pair.local_store, [PERSON], what="entitled", catalog=CATALOG)
    await _put_in_the_way(pair.durable, key)
    before = await _dump_durable(pair.durable_store)
    answers = await apply_records(pair.durable_store, records, catalog=CATALOG)

    assert answers[0][1].startswith("WRONGTYPE")
    assert await _dump_durable(pair.durable_store) == before


async def test_a_copy_that_cannot_be_pruned_is_a_dead_letter(pair: Pair) -> None:
    """It once ended the drain of everyone else in the batch, each time anew."""
    await pair.settle("a", people=(PERSON, OTHER))
    await _put_in_the_way(pair.durable, SET)
    await pair.lapse()
    await pair.add("b", person_id=OTHER)
    await pair.engine.relay.drain([PERSON, OTHER])

    assert await pair.dirty() == {PERSON}
    assert await pair.kept(OTHER) == {"a", "b"}
    assert "WRONGTYPE" in str(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)))


@pytest.mark.parametrize("key", [SET, META, keys.PEOPLE])
async def test_a_pruning_that_meets_a_wrong_type_key_leaves_nothing_half_done(
    pair: Pair, key: str
) -> None:
    """The same for members removed after a lapse."""
    await pair.settle("a", "b")
    await _put_in_the_way(pair.durable, key)
    before = await _dump_durable(pair.durable_store)
    with pytest.raises(StoreConflictError):
        await pair.durable_store.run_script("prune", PERSON, COLLECTION, 2**53, "a")

    assert await _dump_durable(pair.durable_store) == before


async def _dump_durable(durable: RedisStore) -> dict[bytes, bytes]:
    dumps = await dump_all(durable)
    dumps.pop(keys.APPLIED.encode(), None)
    return dumps
