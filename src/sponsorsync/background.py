"""Work that an answer does not wait for, with an owner."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.errors import SponsorSyncError
from sponsorsync.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_DRAIN_S = 5.0

_log = structlog.get_logger(__name__)


class BackgroundWork:
    """Owns tasks until they are done; one that fails is logged and harms nobody."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None], *, name: str) -> None:
        """Starts a task; whoever closes the service waits for it, for a bounded time."""
        task = asyncio.create_task(log_failure(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Waits for all that was started, cancels what takes too long, and waits for that."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_DRAIN_S)
        await end_tasks(*late)


@asynccontextmanager
async def open_background_work() -> AsyncIterator[BackgroundWork]:
    """Yields an owner of tasks, and drains it at the end."""
    work = BackgroundWork()
    try:
        yield work
    finally:
        await work.drain()


@asynccontextmanager
async def keep_doing(
    work: Callable[[], Coroutine[None, None, None]], *, name: str, rest_s: float
) -> AsyncIterator[None]:
    """Does something again and again while the context is open.

    What fails is logged, whatever it is, and tried again after the rest: nobody else would notice.
    """

    async def keep() -> None:
        while True:
            await log_failure(work(), name)
            await asyncio.sleep(rest_s)

    task = asyncio.create_task(keep(), name=name)
    try:
        yield
    finally:
        await end_tasks(task)


async def log_failure(work: Coroutine[None, None, None], name: str) -> None:
    """Does something that harms nobody when it fails; the log tells why."""
    try:
        await work
    except SponsorSyncError as error:
        _log.warning("background_work_failed", work=name, reason=str(error))
    except Exception:  # noqa: BLE001 - nobody else is there to see it
        _log.exception("background_work_failed", work=name)
