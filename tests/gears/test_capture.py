"""What write_behind sees of writes past the service, and what it makes of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sponsorsync.store import keys
from tests.support.shipped import META, PRESENCE, SET, VERSION
from tests.support.sync import COLLECTION, PERSON
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.shipped import Shipped

    Lose = Callable[[Shipped], Awaitable[None]]

A_YEAR_US = 365 * 86400 * 10**6
FOREIGN = "foreign"  # a set {x} of the application's


@pytest.fixture
async def captured(shipped: Shipped) -> Shipped:
    """An entitled person with {a, b} on both sides, and a script that sees who changes that."""
    await shipped.upload("write_behind")
    await shipped.pair.sign_in()
    await shipped.pair.add("a", "b")
    await shipped.settle()
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
    """The old code writes the set directly, by any command."""
    before = await captured.version()
    await captured.pair.local_store.run(*command)
    assert await captured.version() > before
    await captured.settle()

    assert await captured.pair.local_items() == wanted
    assert await captured.pair.durable_items() == wanted


async def test_a_random_pop_reaches_durable(captured: Shipped) -> None:
    """SPOP: only the server knows the members that are left."""
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


async def test_writes_of_a_transaction_travel(captured: Shipped) -> None:
    """MULTI is one moment for the writer; each of its commands is captured."""
    async with captured.pair.local.pipeline(transaction=True) as pipeline:
        for command in (("SADD", SET, "c"), ("SADD", SET, "d"), ("SADD", FOREIGN, "y")):
            pipeline.execute_command(*command)
        await pipeline.execute()
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c", "d"}


@pytest.mark.parametrize("is_lua", [False, True])
async def test_adding_and_removing_at_once_travels(captured: Shipped, *, is_lua: bool) -> None:
    """The capture sees the set as it is at each write, where the host sees only the end of it."""
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
    """The key goes with its last members; what a person removed never comes back."""
    await captured.pair.local_store.run(*command)
    await captured.settle()
    assert await captured.pair.durable_items() == set()
    await captured.pair.local.flushall()

    assert await captured.pair.items() == []


async def test_a_deletion_right_after_a_pop_is_a_loss(captured: Shipped) -> None:
    """SPOP with a count notifies before it is done; only a DEL within it belongs to it."""
    await captured.pair.local.spop(SET, 1)
    await captured.pair.local.delete(SET)
    await captured.settle()

    assert await captured.pair.durable_items() != set()
    assert await captured.pair.items() != []


async def test_an_addition_right_after_a_pop_restores_no_popped_member(captured: Shipped) -> None:
    """The set is no larger than before, and nothing was lost."""
    await captured.hold_drain()
    await captured.pair.local.spop(SET, 1)
    await captured.pair.local.sadd(SET, "c")
    here = await captured.pair.local_items()
    await captured.release_drain()
    await captured.settle()

    assert len(here) == 2
    assert await captured.pair.local_items() == await captured.pair.durable_items() == here


async def _delete(captured: Shipped) -> None:
    await captured.pair.local.delete(SET)


async def _unlink(captured: Shipped) -> None:
    await captured.pair.local.unlink(SET)


async def _expire(captured: Shipped) -> None:
    await captured.pair.local.pexpire(SET, 1)
    await _wait_until_gone(captured)


async def _evict(captured: Shipped) -> None:
    """Only what has a time to live may go."""
    await captured.pair.local.expire(SET, 1000)
    await captured.pair.local.config_set("maxmemory-policy", "volatile-ttl")
    try:
        await captured.pair.local.config_set("maxmemory", 1)
        await _wait_until_gone(captured)
    finally:
        await captured.pair.local.config_set("maxmemory", 0)
        await captured.pair.local.config_set("maxmemory-policy", "noeviction")


async def _rename(captured: Shipped) -> None:
    await captured.pair.local.rename(SET, "elsewhere")


async def _move(captured: Shipped) -> None:
    await captured.pair.local.move(SET, 1)


async def _wait_until_gone(captured: Shipped) -> None:
    async def is_gone() -> bool:
        return await captured.pair.local.exists(SET) == 0

    await until(is_gone)


LOSSES = [_delete, _unlink, _expire, _evict, _rename, _move]


@pytest.mark.parametrize("lose", LOSSES)
async def test_any_other_disappearance_is_a_loss(captured: Shipped, lose: Lose) -> None:
    """Preferences are not removed like that: nothing is sent, and durable keeps them."""
    before = await captured.version()
    await lose(captured)

    async def is_noted() -> bool:
        return not await captured.pair.local.hexists(META, PRESENCE)

    await until(is_noted)
    assert await captured.is_settled()
    assert await captured.version() == before
    assert await captured.pair.items() == ["a", "b"]
    assert await captured.pair.durable_items() == {"a", "b"}


@pytest.mark.parametrize("lose", LOSSES)
async def test_an_addition_after_a_loss_is_merged_with_the_lost_set(
    captured: Shipped, lose: Lose
) -> None:
    """Sent as it is, the new set would end durable's."""
    await lose(captured)
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.local_items() == {"a", "b", "c"}
    assert await captured.pair.durable_items() == {"a", "b", "c"}


@pytest.mark.parametrize("added", [("c",), ("c", "d")])
async def test_an_unnoticed_loss_is_detected_by_the_size(
    captured: Shipped, added: tuple[str, ...]
) -> None:
    """For example before the upload: a set that grew has to be larger than recorded."""
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
    """Local was flushed, and the application was faster than every reader."""
    await captured.pair.local.flushall()
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.local_items() == {"a", "b", "c"}
    assert await captured.pair.durable_items() == {"a", "b", "c"}


async def test_an_addition_to_another_database_empties_nothing(captured: Shipped) -> None:
    """The engine reports it as if it were here, where the set has been lost."""
    await captured.hold_drain()
    await captured.pair.local.delete(SET)
    await captured.pair.local.hset(META, PRESENCE, "1")  # as if nobody had seen it
    async with captured.gears.connect(single_connection_client=True) as elsewhere:
        await elsewhere.select(1)
        await elsewhere.sadd(SET, "z")
    await captured.release_drain()
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b"}
    assert await captured.pair.items() == ["a", "b"]


async def test_our_own_changes_are_not_captured(captured: Shipped) -> None:
    """Each would travel twice, and a fill would travel back to where it came from."""
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


async def test_a_deletion_of_ours_is_not_captured(captured: Shipped) -> None:
    """It notes itself what it did: all that is left is its version."""
    await captured.hold_drain()
    await captured.pair.people.delete_account(PERSON)

    assert set(await captured.pair.local.hgetall(META)) == {"x"}
    await captured.release_drain()
    await captured.settle()
    assert await captured.pair.durable_items() == set()


async def test_the_capture_ignores_sets_of_visitors(captured: Shipped) -> None:
    """They are hashes `user:{n}`, with sets of their own."""
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
    """Neither its writer nor the capture fails; verify names it."""
    await captured.pair.local.set("text", "x")
    await captured.pair.local.rename("text", place)
    if place == keys.meta(7):
        await captured.pair.local.sadd(f"user:7:{COLLECTION}", "x")
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c"}
    assert await captured.no_registration_failed()


async def test_a_clock_that_goes_back_stops_no_change(captured: Shipped) -> None:
    """A version is later than the last one of its part, whatever the clock says."""
    ahead = int(time.time() * 10**6) + A_YEAR_US
    for side in (captured.pair.local, captured.pair.durable):
        await side.hset(META, VERSION, str(ahead))
    await captured.pair.local.zadd(keys.PEOPLE, {str(PERSON): ahead + 5})
    await captured.pair.local.sadd(SET, "c")
    await captured.settle()

    assert await captured.pair.durable_items() == {"a", "b", "c"}
    assert await captured.version() == ahead + 1
    # What the next change goes by keeps the latest of all.
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
    """It takes nothing newer, and merges the rest."""
    content = await captured.pair.read_for_fetch("token")
    if is_lost:
        await captured.pair.evict()
    await captured.gears.run(*command)
    await captured.pair.fill("token", content)
    await captured.settle()

    assert await captured.pair.local_items() == await captured.pair.durable_items() == wanted


async def test_a_write_to_an_older_local_is_merged(live: Shipped) -> None:
    """As a version of the old set it would win over durable's."""
    await live.pair.sign_in()
    await live.pair.add("a", "b")
    await live.settle()
    then = await live.dump_keys()
    await live.pair.add("c")
    await live.settle()
    await live.come_back_older(then)
    await live.pair.local.sadd(SET, "d")
    await live.release_drain()
    await live.settle()

    assert await live.pair.local_items() == await live.pair.durable_items() == {"a", "b", "c", "d"}


async def test_a_key_that_is_no_text_is_none_of_ours(captured: Shipped) -> None:
    """It comes as bytes."""
    await captured.gears.run("SADD", b"user:\xff:mnodes", "a")
    assert await captured.no_registration_failed()
