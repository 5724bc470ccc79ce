"""The test host before Valkey: what is none of the engine's goes through as it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import WatchError

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from tests.gears.conftest import Gears

BUSY = "GB().foreach(lambda r: execute('INCR', 'events')).register('*', mode='sync')"


@pytest.fixture(params=[2, 3])
async def reader(gears: Gears, request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of either protocol, of a host that has something to do at each event."""
    await gears.upload(BUSY)
    async with gears.connect(protocol=request.param) as client:
        yield client


async def is_blocked(gears: Gears) -> bool:
    """Whether somebody waits."""
    return bool((await gears.client.info("clients"))["blocked_clients"])


async def test_a_blocking_command_delays_no_other_client(gears: Gears, reader: Redis) -> None:
    """The relay reads the outbox so."""
    waiting = asyncio.ensure_future(reader.blpop(["list"], 20))
    await until(lambda: is_blocked(gears))
    await gears.client.rpush("list", "a")
    assert await waiting in ((b"list", b"a"), [b"list", b"a"])


async def test_a_client_that_disconnected_takes_no_entry(gears: Gears, reader: Redis) -> None:
    """An entry must not go to a connection without a reader."""
    waiting = asyncio.ensure_future(reader.blpop(["list"], 20))
    await until(lambda: is_blocked(gears))
    waiting.cancel()
    await reader.aclose()

    async def has_left() -> bool:
        return not await is_blocked(gears)

    await until(has_left)
    await gears.client.rpush("list", "a")
    assert await gears.client.llen("list") == 1


async def test_messages_come_by_themselves(gears: Gears, reader: Redis) -> None:
    """The listener hears of events on such a connection."""
    async with reader.pubsub() as subscriber:
        await subscriber.psubscribe("event*")
        await subscriber.get_message(timeout=20)
        await gears.client.publish("event", "a")
        message = await subscriber.get_message(timeout=20)
    assert message is not None
    assert message["data"] == b"a"


async def test_transactions_are_the_servers(gears: Gears, reader: Redis) -> None:
    """WATCH, DISCARD and an error within are answered as ever."""
    pipeline = reader.pipeline()
    await pipeline.watch("a")
    await gears.client.set("a", 1)
    pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py's
    pipeline.execute_command("SET", "a", 2)
    with pytest.raises(WatchError):
        await pipeline.execute()
    assert await reader.get("a") == b"1"


async def test_large_values_go_through(reader: Redis) -> None:
    """A person record may be long, and a set have many members."""
    text = b"x" * 3_000_000
    members = {b"%d" % number for number in range(20_000)}
    await reader.set("text", text)
    await reader.sadd("set", *members)
    assert await reader.get("text") == text
    assert set(await reader.smembers("set")) == members


async def test_its_own_notifications_stay_on(gears: Gears, reader: Redis) -> None:
    """The host lives on them, and the service sets those that it needs itself."""
    await reader.config_set("notify-keyspace-events", "Kx")
    await reader.set("a", 1)
    assert await gears.client.get("events") == b"1"
