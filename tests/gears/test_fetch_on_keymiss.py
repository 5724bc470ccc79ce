"""fetch_on_keymiss answers direct reads of missing collections and profiles from durable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.scripts import GearsConfig
from sponsorsync.store import keys
from tests.support.gears_engine import Gears
from tests.support.proxy import TcpProxy, run_proxy
from tests.support.shipped import (
    ANOTHER_INCARNATION,
    META,
    OTHER,
    SET,
    Shipped,
    environment_for,
    point_at,
    run_shipped,
)
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE, OwnServer
from tests.support.waiting import until

ITEMS = {"a", "-b", "+c", "ü"}
READS = [
    (("SMEMBERS", SET), ITEMS),
    (("SISMEMBER", SET, "-b"), 1),
    (("SISMEMBER", SET, "x"), 0),
    (("SMISMEMBER", SET, "a", "x", "+c"), [1, 0, 1]),
    (("SCARD", SET), 4),
]
NOTHING_READS = [
    (("SMEMBERS", SET), set()),
    (("SISMEMBER", SET, "a"), 0),
    (("SMISMEMBER", SET, "a", "x"), [0, 0]),
    (("SCARD", SET), 0),
]
PROFILE = keys.user_details(PERSON)
UNHOOKED = GearsConfig(
    catalog=Catalog((SPONSORABLE,), (COLLECTION,)),
    hook_profiles=False,
    hook_collections=False,
)
WITH_PROFILES = GearsConfig(catalog=Catalog((SPONSORABLE,), (COLLECTION,)), hook_profiles=True)


@pytest.fixture
async def kept(live: Shipped) -> Shipped:
    """An entitled person with some items on both servers, and both registering scripts."""
    await live.add_person(*ITEMS)
    return live


@asynccontextmanager
async def _reader(gears: Gears, protocol: int) -> AsyncIterator[Redis]:
    """Yields a client as an application has it."""
    async with gears.connect(protocol=protocol, decode_responses=True) as client:
        yield client


async def _ask(client: Redis, *command: str) -> Any:  # noqa: ANN401 - a reply
    """Returns the reply in a form that is the same for RESP2 and RESP3."""
    reply: Any = await client.execute_command(*command)  # type: ignore[no-untyped-call]
    match command[0], reply:
        case "SMEMBERS", _:
            return set(reply)
        case "HGETALL", dict():
            return [each for field in reply.items() for each in field]
    return reply


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("command", "answer"), READS)
async def test_the_first_read_after_a_flush_is_right(
    kept: Shipped, command: tuple[str, ...], answer: object, protocol: int
) -> None:
    """The reply has the type of the command, and the second read gets the same."""
    await kept.pair.local.flushall()
    async with _reader(kept.gears, protocol) as client:
        first = await _ask(client, *command)
        second = await _ask(client, *command)

    assert first == second == answer
    assert await kept.pair.local_items() == ITEMS
    assert await kept.no_registration_failed()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("command", "answer"), NOTHING_READS)
async def test_a_set_that_is_missing_on_both_servers_is_answered_as_empty(
    live: Shipped, command: tuple[str, ...], answer: object, protocol: int
) -> None:
    """Neither server knows the person."""
    async with _reader(live.gears, protocol) as client:
        assert await _ask(client, *command) == answer


async def test_a_set_that_was_evicted_alone_comes_back(kept: Shipped) -> None:
    """By the metadata of the person, local knows that the set is lost."""
    await kept.pair.evict()

    assert await kept.pair.local_items() == ITEMS


async def test_many_members_come_back(kept: Shipped) -> None:
    """Lua's `unpack` returns at most some 8,000 values, so scripts have to work in chunks."""
    many = {f"item-{number}" for number in range(20_000)}
    await kept.pair.local.sadd(SET, *many)
    await kept.settle()
    await kept.pair.local.flushall()

    assert await kept.pair.local_items() == ITEMS | many


async def test_members_that_are_not_utf8_are_fetched(kept: Shipped) -> None:
    """A member of a set may be any bytes."""
    raw = b"\xff\x00\r\n-"
    await kept.gears.client.sadd(SET, raw)
    await kept.settle()
    await kept.pair.local.flushall()

    assert raw in await kept.gears.client.smembers(SET)


async def test_profile_and_entitlement_are_fetched_along(kept: Shipped) -> None:
    """Later readers of profile and entitlement do not wait; the index has the person again."""
    profile = await kept.pair.local.hgetall(PROFILE)
    await kept.pair.local.flushall()
    await kept.pair.local_items()

    assert await kept.pair.local.hgetall(PROFILE) == profile
    assert await kept.pair.local.smembers(keys.sponsors(SPONSORABLE)) == {str(PERSON)}


async def test_fetched_data_are_not_sent_back(kept: Shipped) -> None:
    """Durable already has the fetched data."""
    await kept.pair.local.flushall()
    await kept.hold_drain()  # a running drain might send them before the check
    assert await kept.pair.local_items() == ITEMS

    assert await kept.is_settled()


@pytest.mark.parametrize("command", [("SREM", SET, *ITEMS), ("SPOP", SET, "4")])
async def test_a_set_that_was_emptied_is_answered_without_durable(
    kept: Shipped, command: tuple[str, ...]
) -> None:
    """Local knows that the set is empty, so it need not ask durable."""
    await kept.pair.local_store.run(*command)
    await kept.settle()
    before = await kept.pair.count_durable_scripts()
    async with _reader(kept.gears, 2) as client:
        for read, answer in NOTHING_READS:
            assert await _ask(client, *read) == answer

    assert await kept.pair.count_durable_scripts() == before


async def test_a_set_that_is_missing_on_both_servers_is_fetched_once(live: Shipped) -> None:
    """Most readers have no preferences, so the empty answer is cached."""
    before = await live.pair.count_durable_scripts()
    for _ in range(10):
        assert await live.pair.local_items() == set()

    assert await live.pair.count_durable_scripts() == before + 1
    assert 0 < await live.pair.local.ttl(keys.NEGATIVE.format(id=PERSON)) <= keys.NEGATIVE_TTL_S


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_hundred_readers_who_miss_one_key_cost_two_fetches_at_most(
    kept: Shipped, *, is_kept: bool
) -> None:
    """The first reader fetches, and the others wait for that fetch."""
    key = SET if is_kept else keys.preferences(OTHER, COLLECTION)
    await kept.pair.local.flushall()
    before = await kept.pair.count_durable_scripts()
    async with kept.gears.connect(decode_responses=True, protocol=2) as client:
        answers = await asyncio.gather(*(_ask(client, "SMEMBERS", key) for _ in range(100)))

    assert answers == [ITEMS if is_kept else set()] * 100
    assert await kept.pair.count_durable_scripts() - before <= 2


async def test_a_reader_waits_for_another_fetch(kept: Shipped) -> None:
    """The service holds the lease of the person, and fills the set."""
    await kept.pair.local.flushall()
    content = await kept.pair.read_for_fetch("the-services")
    before = await kept.pair.count_durable_scripts()
    scripts = await _count_local_scripts(kept)
    reading = asyncio.create_task(kept.pair.local_items())

    async def has_asked_again() -> bool:
        return await _count_local_scripts(kept) > scripts + 2

    await until(has_asked_again)
    assert await kept.pair.fill("the-services", content) == "ok"

    assert await reading == ITEMS
    assert await kept.pair.count_durable_scripts() == before


async def _count_local_scripts(kept: Shipped) -> int:
    statistics: Any = await kept.pair.local.info("commandstats")
    return sum(statistics.get(f"cmdstat_{n}", {"calls": 0})["calls"] for n in ("eval", "evalsha"))


async def test_each_id_belongs_to_one_registration(kept: Shipped) -> None:
    """Registrations run at once, so people with different prefixes do not wait for each other."""
    prefixes = [
        each["args"]["regex"].decode()
        for each in await kept.gears.registrations()
        if each["desc"] == b"sponsorsync collections"
    ]
    for person in (*range(1, 1200), 48210377, 2**31, 10**12):
        key = keys.preferences(person, COLLECTION)
        assert [each for each in prefixes if key.startswith(each[:-1])] != []
        assert sum(key.startswith(each[:-1]) for each in prefixes) == 1


async def test_nothing_is_fetched_for_a_visitor(kept: Shipped) -> None:
    """A visitor's sets belong to the application."""
    await kept.pair.local.flushall()
    await kept.pair.local.hset(f"user:{PERSON}", "name", "visitor")
    before = await kept.pair.count_durable_scripts()

    assert await kept.pair.local_items() == set()
    assert await kept.pair.count_durable_scripts() == before


async def test_a_read_in_a_transaction_or_lua_fetches_for_the_next_one(kept: Shipped) -> None:
    """A transaction and a Lua script cannot wait for a fetch, so their read is empty."""
    for number, read in enumerate((_read_in_transaction, _read_in_lua)):
        await kept.pair.local.flushall()
        assert await read(kept) == set(), number

        await until(lambda: kept.pair.local.exists(SET))
        assert await kept.pair.local_items() == ITEMS
    assert await kept.no_registration_failed()


async def _read_in_transaction(kept: Shipped) -> set[str]:
    async with kept.pair.local.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("SMEMBERS", SET)
        [reply] = await pipeline.execute()
    return set(reply)


async def _read_in_lua(kept: Shipped) -> set[str]:
    reply = await kept.pair.local_store.run(
        "EVAL", "return redis.call('SMEMBERS', KEYS[1])", 1, SET
    )
    assert isinstance(reply, list)
    return set(map(str, reply))


async def test_two_reads_in_a_transaction_are_safe_without_hooks(kept: Shipped) -> None:
    """Two hooked reads in one MULTI crash RedisGears; without hooks they read an empty set."""
    await kept.upload("fetch_on_keymiss", config=UNHOOKED)
    await kept.pair.evict()
    async with kept.pair.local.pipeline(transaction=True) as together:
        together.execute_command("SMEMBERS", SET)
        together.execute_command("SMEMBERS", SET)
        first = await together.execute()

    assert first == [set(), set()]
    await until(lambda: kept.pair.local.exists(SET))
    assert await kept.pair.local_items() == ITEMS


async def test_a_foreign_write_beside_a_fetch_is_merged(kept: Shipped) -> None:
    """The next reader gets fetched and written items."""
    await kept.pair.local.flushall()
    await asyncio.gather(
        kept.pair.local.sadd(SET, "new"),
        kept.pair.local_items(),
        kept.pair.local.sadd(SET, "newer"),
    )
    await kept.settle()

    assert (
        await kept.pair.local_items() == await kept.pair.durable_items() == ITEMS | {"new", "newer"}
    )


async def test_a_wrong_type_key_is_reported_to_the_reader(kept: Shipped) -> None:
    """The reader gets an error, and the registration shows it too."""
    await kept.pair.local.flushall()
    await kept.pair.local.set(META, "foreign")

    with pytest.raises(ResponseError, match="sponsorsync: the data in durable storage could"):
        await kept.pair.local_items()
    assert await kept.pair.local_items(OTHER) == set()
    assert not await kept.no_registration_failed()


# ------------------------------------------------------------------ outages


@pytest.fixture
async def proxy(kept: Shipped) -> AsyncIterator[TcpProxy]:
    """A proxy between the scripts and durable, whose connections the test may cut."""
    async with run_proxy(int(environment_for(kept.gears.durable_url)["REDISENT_PORT"])) as proxy:
        await point_at(kept.gears, environment_for(f"redis://127.0.0.1:{proxy.port}/0"))
        yield proxy


@pytest.mark.parametrize("protocol", [2, 3])
async def test_readers_get_an_error_at_once_while_durable_is_down(
    kept: Shipped, proxy: TcpProxy, protocol: int
) -> None:
    """An empty set would be wrong; no key changes, and later reads are right."""
    await kept.pair.local.flushall()
    proxy.cut()
    async with _reader(kept.gears, protocol) as client:
        for command, _ in READS:
            with pytest.raises(ResponseError, match="sponsorsync: durable c"):
                await _ask(client, *command)
        assert set(await kept.pair.local.keys("*")) <= {keys.lease(PERSON)}
        proxy.flow()

        async def is_right() -> bool:
            try:
                return bool(await _ask(client, "SMEMBERS", SET) == ITEMS)
            except ResponseError:
                return False

        await until(is_right)
    # A callback that answers an error has not failed.
    assert await kept.no_registration_failed()


async def test_readers_do_not_queue_behind_time_outs_while_durable_hangs(
    kept: Shipped, proxy: TcpProxy
) -> None:
    """After one time-out all readers get an error at once for a while."""
    await kept.pair.local.flushall()
    proxy.stall()
    loop = asyncio.get_running_loop()
    began = loop.time()
    people = [f"{PERSON}{number}" for number in range(20)]  # one registration for all of them
    async with kept.gears.connect(protocol=2) as client:
        answers = await asyncio.gather(
            *(client.smembers(f"user:{person}:{COLLECTION}") for person in people),
            return_exceptions=True,
        )
    took_s = loop.time() - began

    assert all(isinstance(answer, ResponseError) for answer in answers)
    assert took_s < 6, "two time-outs of two seconds would be one too many"
    proxy.flow()


async def test_known_sets_are_read_while_durable_is_down(kept: Shipped, proxy: TcpProxy) -> None:
    """Local also answers sets that it knows to be empty."""
    proxy.cut()
    assert await kept.pair.local_items() == ITEMS
    await kept.pair.local.srem(SET, *ITEMS)
    assert await kept.pair.local_items() == set()


async def test_no_set_is_known_as_empty_before_local_is_compared(live: Shipped) -> None:
    """Local may have restarted in an older state, and durable may have later additions."""
    await live.pair.add_person("a")
    await live.pair.remove("a")
    await live.settle()
    then = await live.dump_keys()
    await live.pair.add("c")
    await live.settle()
    await live.come_back_older(then)
    with pytest.raises(ResponseError, match="being compared"):
        await live.pair.local.smembers(SET)

    await live.release_drain()
    assert set(await live.pair.local.smembers(SET)) == {"c"}


async def test_nothing_is_fetched_before_durable_is_compared(kept: Shipped) -> None:
    """Durable may have restarted in an older state, without newer items."""
    await kept.pair.evict()
    await kept.pair.local.hset(keys.INCARNATIONS, "durable", ANOTHER_INCARNATION)

    with pytest.raises(ResponseError, match="the durable Redis has been restarted"):
        await kept.pair.local_items()
    await kept.release_drain()
    assert await kept.pair.local_items() == ITEMS


async def test_a_durable_that_came_back_older_is_compared_first(
    own: OwnServer, gears: Gears
) -> None:
    """Data fetched from the older durable would remove items that only local has."""
    async with run_shipped(gears, own.url) as shipped:
        await shipped.upload("fetch_on_keymiss", "write_behind")
        await shipped.add_person("a")
        copy = own.keep_copy()
        await shipped.pair.add("b")
        await shipped.settle()
        await own.come_back_older(copy)
        await shipped.pair.evict(keys.preferences(OTHER, COLLECTION))

        async def is_refused() -> bool:
            try:
                await shipped.pair.local.smembers(keys.preferences(OTHER, COLLECTION))
            except ResponseError as error:
                return "has been restarted" in str(error)
            return False

        await until(is_refused)
        await shipped.release_drain()
        await shipped.settle()
        assert await shipped.pair.durable_items() == {"a", "b"}


# ------------------------------------------------------------------ profiles


async def test_profiles_are_fetched_for_readers_of_resp2(kept: Shipped) -> None:
    """A setting turns on the answers to reads of profiles."""
    profile = await kept.pair.local.hgetall(PROFILE)
    login = profile["user_login"]
    flat = [each for field in profile.items() for each in field]
    await kept.upload("fetch_on_keymiss", config=WITH_PROFILES)
    async with _reader(kept.gears, 2) as client:
        for command, answer in (
            (("HGETALL", PROFILE), flat),
            (("HGET", PROFILE, "user_login"), login),
            (("HMGET", PROFILE, "user_login", "id"), [login, str(PERSON)]),
        ):
            await kept.pair.local.flushall()
            assert await _ask(client, *command) == answer
            assert await _ask(client, *command) == answer


async def test_a_first_read_with_a_missing_field_is_answered_by_the_server(kept: Shipped) -> None:
    """This reply is that for a missing key; the next read is right."""
    login = await kept.pair.local.hget(PROFILE, "user_login")
    await kept.upload("fetch_on_keymiss", config=WITH_PROFILES)
    command = ("HMGET", PROFILE, "user_login", "unknown")
    await kept.pair.local.flushall()
    async with _reader(kept.gears, 2) as client:
        assert await _ask(client, *command) == [None, None]
        assert await _ask(client, *command) == [login, None]
        assert await _ask(client, "HGET", PROFILE, "unknown") is None


async def test_profiles_are_not_fetched_without_the_setting(kept: Shipped) -> None:
    """The default is off, because a hooked command answers in RESP2 even to a RESP3 reader."""
    await kept.pair.local.flushall()
    before = await kept.pair.count_durable_scripts()

    assert await kept.pair.local.hgetall(PROFILE) == {}
    assert await kept.pair.count_durable_scripts() == before


# ------------------------------------------------------------------ the engine is killed


async def test_a_kill_of_the_engine_loses_nothing(own_gears: Gears) -> None:
    """Registrations survive, and so do writes that were not sent yet."""
    async with run_shipped(own_gears, own_gears.durable_url) as shipped:
        await shipped.upload("fetch_on_keymiss", "write_behind")
        await shipped.add_person()
        await shipped.hold_drain()
        await shipped.pair.add("a")
        await shipped.pair.local.sadd(SET, "b")
        await own_gears.restart()
        await point_at(own_gears, environment_for(own_gears.durable_url))
        await until(lambda: _is_compared(shipped))
        await shipped.settle()

        assert await shipped.pair.durable_items() == {"a", "b"}
        await shipped.pair.local.sadd(SET, "c")
        await shipped.settle()
        assert await shipped.pair.durable_items() == {"a", "b", "c"}
        await shipped.pair.evict()
        assert await shipped.pair.local_items() == {"a", "b", "c"}


async def _is_compared(shipped: Shipped) -> bool:
    await shipped.pair.compare()
    return True
