"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from sponsorsync.store import keys

_POLL_S = 0.01


async def is_clean(local: Redis) -> bool:
    """Returns whether durable has confirmed all changes."""
    return bool(await local.scard(keys.DIRTY) == 0)


async def until(condition: Callable[[], Awaitable[bool]], *, limit_s: float = 20.0) -> None:
    """Waits until the condition holds.

    Raises:
        TimeoutError: It did not hold within the limit.
    """
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(_POLL_S)
