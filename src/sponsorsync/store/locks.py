"""Locks on a Redis: redis-py's own lock, with the errors of domain/errors.py.

A lock expires if its holder dies. A slow holder may lose its lock, too: `extend` reports that, and
releasing a lost lock is no error.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError, RedisError

from sponsorsync.store.connect import RedisStore

_TOKEN_BYTES = 16  # redis-py's own token would show the host's MAC address


class HeldLock:
    """A lock that was acquired; `hold_lock` releases it."""

    def __init__(self, store: RedisStore, lock: Lock) -> None:
        self._store = store
        self._lock = lock

    async def extend(self) -> bool:
        """Restarts the lock's time to live; returns False if the lock was lost.

        Raises StoreError if the Redis cannot be asked, or the key holds data of another kind.
        """
        async with self._store.translated_errors():
            try:
                return await self._lock.reacquire()
            except LockNotOwnedError:
                return False


@asynccontextmanager
async def hold_lock(
    store: RedisStore, key: str, *, ttl_ms: int, wait_s: float = 0.0
) -> AsyncIterator[HeldLock | None]:
    """Holds a lock while the context is open; yields None if another holder has it after `wait_s`.

    The key's value is the holder's random token. The lock expires `ttl_ms` after its acquisition or
    its last `extend`. Raises StoreUnavailableError if the Redis cannot be asked at the beginning.
    """
    lock = store.create_lock(key, ttl_ms=ttl_ms)
    async with store.translated_errors():
        is_acquired = await lock.acquire(
            blocking_timeout=wait_s, token=secrets.token_hex(_TOKEN_BYTES)
        )
    if not is_acquired:
        yield None
        return
    try:
        yield HeldLock(store, lock)
    finally:
        with suppress(RedisError):  # the lock was lost, or expires by itself
            await lock.release()
