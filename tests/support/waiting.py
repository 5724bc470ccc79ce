"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from sponsorsync.store import keys

_POLL_S = 0.01


async def until(condition: Callable[[], Awaitable[bool]], *, limit_s: float = 20.0) -> None:
    """Waits until the condition holds.

    Raises:
        TimeoutError: It did not hold within the limit.
    """
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(_POLL_S)


async def until_relayed(local: Redis) -> None:
    """Waits until durable has confirmed all changes."""

    async def is_clean() -> bool:
        return not await local.scard(keys.DIRTY)

    await until(is_clean)
