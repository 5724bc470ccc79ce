"""Functions that wait for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from sponsorsync.store import keys

_POLL_S = 0.01


async def is_clean(local: Redis) -> bool:
    """Returns whether durable has confirmed all changes."""
    return bool(await local.scard(keys.DIRTY) == 0)


async def until(condition: Callable[[], Awaitable[object]], *, limit_s: float = 20.0) -> None:
    """Waits until the condition returns a true value.

    Raises:
        TimeoutError: The condition did not hold within the limit.
    """
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(_POLL_S)


async def until_equal(
    read: Callable[[], Awaitable[object]], expected: object, *, limit_s: float = 20.0
) -> None:
    """Waits until `read` returns the expected value.

    Raises:
        TimeoutError: It did not return the value within the limit.
    """

    async def is_equal() -> bool:
        return await read() == expected

    await until(is_equal, limit_s=limit_s)


async def until_relayed(local: Redis) -> None:
    """Waits until durable has confirmed all changes."""
    await until(lambda: is_clean(local))
