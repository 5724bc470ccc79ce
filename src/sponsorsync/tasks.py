"""Ending tasks for certain."""

from __future__ import annotations

import asyncio

_INSIST_S = 0.2


async def end_tasks(*tasks: asyncio.Task[None]) -> None:
    """Cancels tasks, and returns when all have ended; also when it is cancelled itself meanwhile.

    It insists, since a cancellation can get lost: redis-py sends through `asyncio.wait_for`, which
    swallows one on Python 3.11 (https://github.com/python/cpython/issues/86296), and one that meets
    a connection being made comes out as an error of that connection, which a loop takes for an
    outage. So tasks that talk to Redis are not left to a task group, which cancels only once.
    """
    waiting, is_cancelled = set(tasks), False
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=_INSIST_S)
        except asyncio.CancelledError:
            is_cancelled = True
        waiting = {task for task in waiting if not task.done()}
    if is_cancelled:
        raise asyncio.CancelledError
