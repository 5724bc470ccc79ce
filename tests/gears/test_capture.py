"""The capture of write_behind turns *foreign writes*, those past the service, into changes."""

import time
from collections.abc import Awaitable, Callable

import pytest

from sponsorsync.store import keys
from tests.support.shipped import META, PRESENCE, SET, VERSION, Shipped
from tests.support.sync import COLLECTION, PERSON
from tests.support.waiting import until_equal

Lose = Callable[[Shipped], Awaitable[None]]

A_YEAR_US = 365 * 86400 * 10**6
FOREIGN = "foreign"  # a set {x} of the application


@pytest.fixture
async def captured(shipped: Shipped) -> Shipped:
    """An entitled person with {a, b} on both servers, and the script that captures writes."""
    await shipped.upload("write_behind")
    await shipped.add_person("a", "b")
    await shipped.pair.local.sadd(FOREIGN, "x")
    return shipped


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (("SADD", SET, "c", "d"), {"a", "b", "c", "d"}),
        (("SREM", SET, "a"), {"b"}),
        (("SUNIONSTORE", SET, SET, FOREIGN), {"a", "b", "x"}),
        (("SINTERSTORE", SET, SET, SET), {"a", "b"}),
        (("SDIFFSTORE", SET, SET, FOREIGN), {"a", "b"}),
        (("SMOVE", SET, FOREIGN, "a"), {"b"}),
        (("SMOVE", FOREIGN, SET, "x"), {"a", "b", "x"}),
        (("RENAME", FOREIGN, SET), {"x"}),
        (("COPY", FOREIGN, SET, "REPLACE"), {"x"}),
        (("EVAL", "redis.call('SADD', KEYS[1], 'c', 'd')", "1", SET), {"a", "b", "c", "d"}),
        (("EVAL", "redis.call('SREM', KEYS[1], 'a')", "1", SET), {"b"}),
    ],
)
async def test_each_foreign_write_reaches_durable(
    captured: Shipped, command: tuple[str, ...], wanted: set[str]
) -> None:
    """The application may write a set directly with any command."""
    before = await captured.version()
    await captured.pair.local_store.run(*command)
    assert await captured.version() > before
    await captured.settle()

    assert await captured.pair.local_items() == wanted
    assert await captured.pair.durable_items() == wanted


async def test_a_random_pop_reaches_durable(captured: Shipped) -> None:
    """Only the server knows which members SPOP leaves."""
    await captured.pair.local.spop(SET)
    await captured.settle()

    assert len(await captured.pair.durable_items()) == 1
    assert await captured.pair.durable_items() == await captured.pair.local_items()


async def test_a_restored_set_reaches_durable(captured: Shipped) -> None:
    """A program may move sets by DUMP and RESTORE."""
    content = await captured.pair.local_store.run("DUMP", FOREIGN)
    assert isinstance(content, bytes)
    await captured.pair.local_store.run("RESTORE", SET, 0, content, "REPLACE")
    await captured.settle()

    assert await captured.pair.durable_items() == {"x"}


async def test_writes_of_a_transaction_reach_durable(captured: Shipped) -> None:
    """Each command within MULTI is captured."""
    async with captured.pair.local.pipeline(transaction=True) as pipeline:
        for command in (("SADD", SET, "c"), ("SADD", SET, "d"), ("SADD", FOREIGN, "y")):
            pipeline.execute_command(*command)
        await pipeline.execute()
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c", "d"}


@pytest.mark.parametrize("is_lua", [False, True])
async def test_an_addition_and_a_removal_at_once_reach_durable(
    captured: Shipped, *, is_lua: bool
) -> None:
    """RedisGears captures the set at each write within a transaction or script."""
    if not captured.gears.is_real:
        pytest.skip("the host runs callbacks of a transaction at its end")
    if is_lua:
        lua = "redis.call('SADD', KEYS[1], 'c'); redis.call('SREM', KEYS[1], 'a')"
        await captured.pair.local_store.run("EVAL", lua, 1, SET)
    else:
        async with captured.pair.local.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("SADD", SET, "c")
            pipeline.execute_command("SREM", SET, "a")
            await pipeline.execute()
    await captured.settle()

    assert await captured.pair.durable_items() == await captured.pair.local_items() == {"b", "c"}


@pytest.mark.parametrize("command", [("SREM", SET, "a", "b"), ("SPOP", SET, "2")])
async def test_emptying_a_set_is_a_removal(captured: Shipped, command: tuple[str, ...]) -> None:
    """Redis deletes the key with its last member; the removed items must not come back."""
    await captured.pair.local_store.run(*command)
    await captured.settle()
    assert await captured.pair.durable_items() == set()
    await captured.pair.local.flushall()

    assert await captured.pair.items() == []


async def test_a_deletion_right_after_a_pop_is_a_loss(captured: Shipped) -> None:
    """SPOP with a count notifies before it is done, so a DEL of its own tells that it emptied."""
    await captured.pair.local.spop(SET, 1)
    await captured.pair.local.delete(SET)
    await captured.settle()

    assert await captured.pair.durable_items() != set()
    assert await captured.pair.items() != []


async def test_an_addition_right_after_a_pop_restores_no_popped_member(captured: Shipped) -> None:
    """The size of the set is the recorded one, so the capture does not see a loss."""
    await captured.hold_drain()
    await captured.pair.local.spop(SET, 1)
    await captured.pair.local.sadd(SET, "c")
    here = await captured.pair.local_items()
    await captured.release_drain()
    await captured.settle()

    assert len(here) == 2
    assert await captured.pair.local_items() == await captured.pair.durable_items() == here


def _run(*command: str) -> Lose:
    """Returns a function that runs a command on local."""

    async def lose(captured: Shipped) -> None:
        await captured.pair.local_store.run(*command)

    return lose


async def _expire(captured: Shipped) -> None:
    await captured.pair.local.pexpire(SET, 1)
    await until_equal(lambda: captured.pair.local.exists(SET), 0)


async def _evict(captured: Shipped) -> None:
    """Makes Redis evict the set: by its policy, only keys with a time to live are evicted."""
    await captured.pair.local.expire(SET, 1000)
    await captured.pair.local.config_set("maxmemory-policy", "volatile-ttl")
    try:
        await captured.pair.local.config_set("maxmemory", 1)
        await until_equal(lambda: captured.pair.local.exists(SET), 0)
    finally:
        await captured.pair.local.config_set("maxmemory", 0)
        await captured.pair.local.config_set("maxmemory-policy", "noeviction")


LOSSES = {
    "delete": _run("DEL", SET),
    "unlink": _run("UNLINK", SET),
    "rename": _run("RENAME", SET, "elsewhere"),
    "move": _run("MOVE", SET, "1"),
    "expire": _expire,
    "evict": _evict,
}
each_loss = pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)


@each_loss
async def test_any_other_disappearance_is_a_loss(captured: Shipped, lose: Lose) -> None:
    """No program empties preferences like that: nothing is sent, and durable keeps them."""
    before = await captured.version()
    await lose(captured)

    await until_equal(lambda: captured.pair.local.hexists(META, PRESENCE), expected=False)
    assert await captured.is_settled()
    assert await captured.version() == before
    assert await captured.pair.items() == ["a", "b"]
    assert await captured.pair.durable_items() == {"a", "b"}


@each_loss
async def test_an_addition_after_a_loss_is_merged_with_the_lost_set(
    captured: Shipped, lose: Lose
) -> None:
    """Sent without the lost items, the new set would replace durable's."""
    await lose(captured)
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.local_items() == {"a", "b", "c"}
    assert await captured.pair.durable_items() == {"a", "b", "c"}


@pytest.mark.parametrize("added", [("c",), ("c", "d")])
async def test_an_unnoticed_loss_is_detected_by_the_size(
    captured: Shipped, added: tuple[str, ...]
) -> None:
    """After an addition, a set that is not larger than its recorded size was lost before."""
    [registration] = [
        each["id"]
        for each in await captured.gears.registrations()
        if each["desc"] == b"sponsorsync capture"
    ]
    await captured.gears.run("RG.UNREGISTER", registration)
    await captured.pair.local.delete(SET)
    await captured.upload("write_behind")
    await captured.pair.local.sadd(SET, *added)
    await captured.settle()

    assert await captured.pair.local_items() == {"a", "b", *added}
    assert await captured.pair.durable_items() == {"a", "b", *added}


async def test_an_addition_to_an_unknown_set_is_merged(captured: Shipped) -> None:
    """Local was flushed, and the application wrote to the set before anything read it."""
    await captured.pair.local.flushall()
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.local_items() == {"a", "b", "c"}
    assert await captured.pair.durable_items() == {"a", "b", "c"}


async def test_an_addition_to_another_database_empties_nothing(captured: Shipped) -> None:
    """RedisGears does not report the database of a write; in ours, the set was lost."""
    await captured.hold_drain()
    await captured.pair.local.delete(SET)
    await captured.pair.local.hset(META, PRESENCE, "1")  # as if the loss had not been captured
    async with captured.gears.connect(single_connection_client=True) as elsewhere:
        await elsewhere.select(1)
        await elsewhere.sadd(SET, "z")
    await captured.release_drain()
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b"}
    assert await captured.pair.items() == ["a", "b"]


async def test_our_own_changes_are_not_captured(captured: Shipped) -> None:
    """Captured changes of our own would be sent twice, and fetched data would be sent back."""
    await captured.hold_drain()
    marks = int(await captured.pair.local.hget(META, "m") or 0)
    await captured.pair.add("c")
    assert int(await captured.pair.local.hget(META, "m") or 0) == marks + 1

    await captured.release_drain()
    await captured.settle()
    await captured.hold_drain()
    await captured.pair.local.flushall()
    assert await captured.pair.items() == ["a", "b", "c"]
    assert await captured.is_settled()
    assert not await captured.pair.local.exists(keys.NAMES["CAPTURE_SUPPRESSED"])


async def test_a_deletion_of_the_service_is_not_captured(captured: Shipped) -> None:
    """The metadata contain only the version of the deletion."""
    await captured.hold_drain()
    await captured.pair.people.delete_account(PERSON)

    assert set(await captured.pair.local.hgetall(META)) == {"x"}
    await captured.release_drain()
    await captured.settle()
    assert await captured.pair.durable_items() == set()


async def test_the_capture_ignores_sets_of_visitors(captured: Shipped) -> None:
    """A visitor of the application has a hash `user:{n}`, and sets named like a person's."""
    await captured.pair.local.hset("user:7", "name", "visitor")
    await captured.pair.local.sadd(f"user:7:{COLLECTION}", "theirs")

    assert await captured.is_settled()
    assert not await captured.pair.local.exists(keys.meta(7))


@pytest.mark.parametrize(
    "key", ["user:x:mnodes", "user:07:mnodes", "user:7:other", "user:7:mnodes:x", "user:7"]
)
async def test_the_capture_ignores_other_keys(captured: Shipped, key: str) -> None:
    """The application has other keys under the same prefix."""
    await captured.pair.local.sadd(key, "x")

    assert await captured.is_settled()
    assert await captured.no_registration_failed()
    assert await captured.pair.local.keys(META[: -len(str(PERSON))] + "*") == [META]


@pytest.mark.parametrize("place", [f"user:7:{COLLECTION}", keys.meta(7)])
async def test_a_wrong_type_key_does_not_fail_the_capture(captured: Shipped, place: str) -> None:
    """Neither the writer of the key nor the registration fails; verify reports the key."""
    await captured.pair.local.set("text", "x")
    await captured.pair.local.rename("text", place)
    if place == keys.meta(7):
        await captured.pair.local.sadd(f"user:7:{COLLECTION}", "x")
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c"}
    assert await captured.no_registration_failed()


async def test_a_clock_that_goes_back_stops_no_change(captured: Shipped) -> None:
    """A new version exceeds the last one of its part, also if the clock is behind."""
    ahead = int(time.time() * 10**6) + A_YEAR_US
    for client in (captured.pair.local, captured.pair.durable):
        await client.hset(META, VERSION, str(ahead))
    await captured.pair.local.zadd(keys.PEOPLE, {str(PERSON): ahead + 5})
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c"}
    assert await captured.version() == ahead + 1
    # The latest version of the person, from which the next one is computed, does not go back.
    assert await captured.pair.local.zscore(keys.PEOPLE, str(PERSON)) == ahead + 5


@pytest.mark.parametrize(
    ("command", "is_lost", "wanted"),
    [
        (("SADD", SET, "c"), False, {"a", "b", "c"}),
        (("SADD", SET, "c"), True, {"a", "b", "c"}),
        (("SREM", SET, "a"), False, {"b"}),
    ],
)
async def test_a_running_fetch_does_not_undo_a_foreign_write(
    captured: Shipped, command: tuple[str, ...], wanted: set[str], *, is_lost: bool
) -> None:
    """The fill overwrites no newer set, and is merged with a set of unknown version."""
    content = await captured.pair.read_for_fetch("token")
    if is_lost:
        await captured.pair.evict()
    await captured.gears.run(*command)
    await captured.pair.fill("token", content)
    await captured.settle()

    assert await captured.pair.local_items() == await captured.pair.durable_items() == wanted


async def test_a_write_to_an_older_local_is_merged(live: Shipped) -> None:
    """Versioned as a change of the older set, the write would overwrite durable's newer set."""
    await live.add_person("a", "b")
    then = await live.dump_keys()
    await live.pair.add("c")
    await live.settle()
    await live.come_back_older(then)
    await live.pair.local.sadd(SET, "d")
    await live.release_drain()
    await live.settle()

    assert await live.pair.local_items() == await live.pair.durable_items() == {"a", "b", "c", "d"}


async def test_the_capture_ignores_a_key_that_is_not_utf8(captured: Shipped) -> None:
    """RedisGears passes such a key to the callback as bytes."""
    await captured.gears.run("SADD", b"user:\xff:mnodes", "a")
    assert await captured.no_registration_failed()
