"""Scripts that are asked for at the same time travel together, and fail one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.connect import create_store
from sponsorsync.store.script_batching import ScriptBatching
from tests.support.proxy import run_proxy

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import RedisStore, Reply

SPONSORABLE = "maintainer"


async def test_what_is_asked_for_at_once_takes_one_round_trip(
    local: Redis, local_server: EmbeddedValkey
) -> None:
    """Each gets their own answer."""
    for number in range(20):
        await local.hset(keys.user_details(number), "user_login", f"login-{number}")
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=4)
        script_batching = ScriptBatching(store)
        await _ask(script_batching, 0)  # loads the script
        before = proxy.round_trips
        replies = await asyncio.gather(*(_ask(script_batching, number) for number in range(20)))
        cost = proxy.round_trips - before
        await store.aclose()

    assert [_login_in(reply) for reply in replies] == [f"login-{number}" for number in range(20)]
    assert cost == 1


async def test_a_script_that_the_server_has_never_seen_is_loaded_for_all(
    local: Redis, local_store: RedisStore
) -> None:
    """After a restart everybody comes at once."""
    script_batching = ScriptBatching(local_store)
    await local.script_flush()

    replies = await asyncio.gather(*(_ask(script_batching, number) for number in range(3)))

    assert replies == [[b"ok", b"%d" % number, b"", []] for number in range(3)]


async def test_who_goes_away_takes_nobody_along(local_store: RedisStore) -> None:
    """Neither the one who came first, nor another."""
    script_batching = ScriptBatching(local_store)
    tasks = [asyncio.create_task(_ask(script_batching, number)) for number in range(3)]
    await asyncio.sleep(0)  # all have asked, and nothing has been sent

    tasks[0].cancel()
    tasks[2].cancel()
    replies = await asyncio.gather(*tasks, return_exceptions=True)

    assert replies[1] == [b"ok", b"1", b"", []]
    assert isinstance(replies[0], asyncio.CancelledError)
    assert isinstance(replies[2], asyncio.CancelledError)


async def test_an_error_is_that_of_one_alone(local: Redis, local_store: RedisStore) -> None:
    """Somebody's key of another kind is nobody else's trouble."""
    await local.set(keys.user_details(1), "somebody else's")
    script_batching = ScriptBatching(local_store)

    replies = await asyncio.gather(
        *(_ask(script_batching, number) for number in range(3)), return_exceptions=True
    )

    assert [replies[0], replies[2]] == [[b"ok", b"%d" % number, b"", []] for number in (0, 2)]
    assert isinstance(replies[1], StoreConflictError)
    assert "WRONGTYPE" in str(replies[1].__cause__)


async def test_a_server_that_is_away_is_everybodys_error_until_it_is_back(
    local: Redis, local_server: EmbeddedValkey
) -> None:
    """The next turn tries again."""
    assert await local.ping()
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=4)
        script_batching = ScriptBatching(store)
        proxy.cut()
        failed = await asyncio.gather(
            *(_ask(script_batching, number) for number in range(3)), return_exceptions=True
        )
        proxy.flow()
        reply = await _ask(script_batching, 7)
        await store.aclose()

    assert [type(each) for each in failed] == [StoreUnavailableError] * 3
    assert reply == [b"ok", b"7", b"", []]


async def test_an_answer_that_does_not_come_is_not_waited_for_long(
    local: Redis, local_server: EmbeddedValkey
) -> None:
    """The store's own limit counts for all."""
    assert await local.ping()
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=4, reply_timeout_s=0.1)
        script_batching = ScriptBatching(store)
        await _ask(script_batching, 0)
        proxy.stall()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await asyncio.gather(*(_ask(script_batching, number) for number in range(2)))
        await store.aclose()


async def _ask(script_batching: ScriptBatching, person_id: int) -> Reply:
    return await script_batching.run_script("load_caller", "", person_id, "", SPONSORABLE)


def _login_in(reply: Reply) -> str:
    assert isinstance(reply, list)
    assert isinstance(reply[2], bytes)
    return reply[2].decode()
