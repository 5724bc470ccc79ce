"""The test host as a proxy of Valkey: commands that are not RedisGears' pass unchanged."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import WatchError

from tests.support.gears_engine import Gears
from tests.support.waiting import until, until_equal

BUSY = "GB().foreach(lambda r: execute('INCR', 'events')).register('*', mode='sync')"


@pytest.fixture(params=[2, 3])
async def reader(gears: Gears, request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client in RESP2, then in RESP3, of a host with a sync callback for every event."""
    await gears.upload(BUSY)
    async with gears.connect(protocol=request.param) as client:
        yield client


async def is_blocked(gears: Gears) -> bool:
    """Returns whether a client is blocked by a command such as BLPOP."""
    return bool((await gears.client.info("clients"))["blocked_clients"])


async def test_a_blocking_command_delays_no_other_client(gears: Gears, reader: Redis) -> None:
    """The relay waits for the outbox by a blocking command."""
    waiting = asyncio.ensure_future(reader.blpop(["list"], 20))
    await until(lambda: is_blocked(gears))
    await gears.client.rpush("list", "a")
    assert await waiting in ((b"list", b"a"), [b"list", b"a"])


async def test_a_client_that_disconnected_gets_no_entry(gears: Gears, reader: Redis) -> None:
    """An entry must not go to a connection without a reader."""
    waiting = asyncio.ensure_future(reader.blpop(["list"], 20))
    await until(lambda: is_blocked(gears))
    waiting.cancel()
    await reader.aclose()

    await until_equal(lambda: is_blocked(gears), expected=False)
    await gears.client.rpush("list", "a")
    assert await gears.client.llen("list") == 1


async def test_published_messages_pass(gears: Gears, reader: Redis) -> None:
    """The listener of the service subscribes to events."""
    async with reader.pubsub() as subscriber:
        await subscriber.psubscribe("event*")
        await subscriber.get_message(timeout=20)
        await gears.client.publish("event", "a")
        message = await subscriber.get_message(timeout=20)
    assert message is not None
    assert message["data"] == b"a"


async def test_transactions_pass(gears: Gears, reader: Redis) -> None:
    """WATCH works as on a plain Valkey."""
    pipeline = reader.pipeline()
    await pipeline.watch("a")
    await gears.client.set("a", 1)
    pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py's
    pipeline.execute_command("SET", "a", 2)
    with pytest.raises(WatchError):
        await pipeline.execute()
    assert await reader.get("a") == b"1"


async def test_large_values_pass(reader: Redis) -> None:
    """Person records and sets may be large."""
    text = b"x" * 3_000_000
    members = {b"%d" % number for number in range(20_000)}
    await reader.set("text", text)
    await reader.sadd("set", *members)
    assert await reader.get("text") == text
    assert set(await reader.smembers("set")) == members


async def test_the_notifications_of_the_host_stay_on(gears: Gears, reader: Redis) -> None:
    """The service sets the notifications that it needs, and the host needs all of them."""
    await reader.config_set("notify-keyspace-events", "Kx")
    await reader.set("a", 1)
    assert await gears.client.get("events") == b"1"
