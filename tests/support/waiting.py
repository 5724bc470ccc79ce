"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_POLL_S = 0.01


async def until(condition: Callable[[], Awaitable[bool]], *, limit_s: float = 20.0) -> None:
    """Waits until the condition holds.

    Raises:
        TimeoutError: It did not hold within the limit.
    """
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(_POLL_S)
