"""Locks that replicas share: each has one holder, until it is released or expires."""

import asyncio

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.locks import hold_lock
from tests.store.conftest import ProxiedStore

KEY = "sponsorsync:test-lock"
TTL_MS = 60_000


async def test_a_lock_has_one_holder_at_a_time(local_store: RedisStore, local: Redis) -> None:
    """Another caller gets None at once, and gets the lock after the release."""
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


async def test_waiting_takes_a_lock_that_expires(local_store: RedisStore, local: Redis) -> None:
    """A holder that died blocks others only until the lock expires."""
    await local.set(KEY, "of-another", px=200)
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS, wait_s=5.0) as lock:
        token = await local.get(KEY)

    assert lock is not None
    assert token != "of-another"


async def test_extending_restarts_the_lifetime(local_store: RedisStore, local: Redis) -> None:
    """Work may take longer than the lifetime; extending works also after SCRIPT FLUSH."""
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as lock:
        assert lock is not None
        await local.pexpire(KEY, 1000)
        await local.script_flush()
        is_ours = await lock.extend()
        ttl_ms = await local.pttl(KEY)

    assert is_ours
    assert 1000 < ttl_ms <= TTL_MS


@pytest.mark.parametrize("holder", ["another", None])
async def test_a_lost_lock_stays_with_its_new_holder(
    local_store: RedisStore, local: Redis, holder: str | None
) -> None:
    """The former holder can neither extend nor release the lock; trying it raises no error."""
    async with hold_lock(local_store, KEY, ttl_ms=TTL_MS) as lock:
        assert lock is not None
        await local.delete(KEY)
        if holder is not None:
            await local.set(KEY, holder, px=50_000)
        is_ours = await lock.extend()

    assert not is_ours
    assert await local.get(KEY) == holder
    assert holder is None or 0 < await local.pttl(KEY) <= 50_000


async def test_an_error_of_the_holder_releases_the_lock(
    local_store: RedisStore, local: Redis
) -> None:
    """Others need not wait until the lock expires."""
    with pytest.raises(ZeroDivisionError):
        async with hold_lock(local_store, KEY, ttl_ms=TTL_MS):
            raise ZeroDivisionError

    assert await local.exists(KEY) == 0


async def test_cancelling_the_holder_releases_the_lock(
    local_store: RedisStore, local: Redis
) -> None:
    """The service may be stopped while a task holds the lock."""
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


async def test_an_outage_raises_an_error_of_ours(proxied: ProxiedStore) -> None:
    """Acquiring and extending raise; a release is skipped, and the lock expires."""
    async with hold_lock(proxied.store, KEY, ttl_ms=TTL_MS) as lock:
        assert lock is not None
        proxied.proxy.cut()
        with pytest.raises(StoreUnavailableError):
            await lock.extend()
    with pytest.raises(StoreUnavailableError):
        async with hold_lock(proxied.store, KEY, ttl_ms=TTL_MS):
            pass
