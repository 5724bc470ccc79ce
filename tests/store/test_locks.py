"""Locks that replicas share: one holds them, until it gives them back or their lifetime ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store.connect import create_store
from sponsorsync.store.locks import hold_lock
from tests.support.proxy import run_proxy

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import RedisStore

KEY = "sponsorsync:test-lock"
TTL_MS = 60_000


async def test_one_holder_at_a_time(local_store: RedisStore, local: Redis) -> None:
    """Another one is told at once, and may take the lock afterwards."""
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as first:
        ttl_ms = await local.pttl(KEY)
        async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as second:
            pass
        is_still_held = await local.exists(KEY)
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as third:
        pass

    assert (first is not None, second, third is not None) == (True, None, True)
    assert is_still_held
    assert 0 < ttl_ms <= TTL_MS
    assert await local.exists(KEY) == 0


async def test_who_waits_takes_it_when_it_is_free(local_store: RedisStore, local: Redis) -> None:
    """The holder that died has it for its lifetime only."""
    await local.set(KEY, "of-another", px=200)
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS, wait_s=5.0) as lock:
        token = await local.get(KEY)

    assert lock is not None
    assert token != "of-another"


async def test_extending_starts_the_lifetime_anew(local_store: RedisStore, local: Redis) -> None:
    """Work may take longer than a lock lasts, also after a restart that forgot all scripts."""
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as lock:
        assert lock is not None
        await local.pexpire(KEY, 1000)
        await local.script_flush()
        is_ours = await lock.extend()
        ttl_ms = await local.pttl(KEY)

    assert is_ours
    assert 1000 < ttl_ms <= TTL_MS


@pytest.mark.parametrize("holder", ["another", None])
async def test_a_lock_that_was_lost_stays_another_holders(
    local_store: RedisStore, local: Redis, holder: str | None
) -> None:
    """It is neither extended nor given back, and to give it back is no error."""
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as lock:
        assert lock is not None
        await local.delete(KEY)
        if holder is not None:
            await local.set(KEY, holder, px=50_000)
        is_ours = await lock.extend()

    assert not is_ours
    assert await local.get(KEY) == holder
    assert holder is None or 0 < await local.pttl(KEY) <= 50_000


async def test_an_error_of_the_holder_gives_it_back(local_store: RedisStore, local: Redis) -> None:
    """Others go on at once."""
    with pytest.raises(ZeroDivisionError):
        async with hold_lock(local_store, KEY, ttl_ms=TTL_MS):
            raise ZeroDivisionError

    assert await local.exists(KEY) == 0


async def test_a_task_that_is_cancelled_gives_it_back(
    local_store: RedisStore, local: Redis
) -> None:
    """The service ends while it works."""
    is_held = asyncio.Event()

    async def work() -> None:
        async with hold_lock(local_store, KEY, ttl_ms=TTL_MS):
            is_held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await is_held.wait()
    task.cancel()
    await asyncio.wait([task])

    assert await local.exists(KEY) == 0


async def test_a_redis_that_is_away_is_an_error_of_ours(local_server: EmbeddedValkey) -> None:
    """Taking and extending tell that nothing is known; giving back leaves it to the lifetime."""
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=1)
        async with hold_lock(store, KEY, ttl_ms=TTL_MS) as lock:
            assert lock is not None
            proxy.cut()
            with pytest.raises(StoreUnavailableError):
                await lock.extend()
        with pytest.raises(StoreUnavailableError):
            async with hold_lock(store, KEY, ttl_ms=TTL_MS):
                pass
        await store.aclose()
