"""Locks on a Redis: redis-py's own lock, with errors of our tree.

A lock expires by itself, so a holder that dies blocks the others for its lifetime at most. A holder
that was away for longer may have lost it; `extend` tells that, and giving back a lost lock is no
error.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from redis.exceptions import LockNotOwnedError, RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio.lock import Lock

    from sponsorsync.store.connect import RedisStore


class HeldLock:
    """A lock that was taken, until `hold_lock` gives it back."""

    def __init__(self, store: RedisStore, lock: Lock) -> None:
        self._store = store
        self._lock = lock

    async def extend(self) -> bool:
        """Starts the lifetime anew; returns False where the lock was lost.

        Raises:
            StoreError: The Redis cannot be asked, or the key holds data of another kind.
        """
        with self._store.translated_errors():
            try:
                return await self._lock.reacquire()
            except LockNotOwnedError:
                return False

    async def release(self) -> None:
        """Gives the lock back, if it is still ours; it expires where the Redis cannot be asked."""
        with suppress(RedisError):
            await self._lock.release()


@asynccontextmanager
async def hold_lock(
    store: RedisStore, key: str, *, ttl_ms: int, wait_s: float = 0.0
) -> AsyncIterator[HeldLock | None]:
    """Holds a lock while the context is open; yields None where it could not be taken.

    Args:
        store: The Redis that all holders share.
        key: The lock's key; it holds the random token of the holder.
        ttl_ms: The lifetime, from the beginning and from each `extend`.
        wait_s: How long to wait for another holder.

    Raises:
        StoreUnavailableError: The Redis cannot be asked at the beginning.
    """
    lock = store.create_lock(key, ttl_ms=ttl_ms)
    with store.translated_errors():
        is_taken = await lock.acquire(blocking_timeout=wait_s)
    if not is_taken:
        yield None
        return
    held = HeldLock(store, lock)
    try:
        yield held
    finally:
        await held.release()
