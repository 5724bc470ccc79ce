"""Covers that end by their time, where there is no sync engine that would see to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.errors import StoreError
from sponsorsync.store.covers import end_covers
from sponsorsync.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sponsorsync.store.connect import RedisStore

_LOOK_S = 2.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def keep_ending_covers(local: RedisStore) -> AsyncIterator[None]:
    """Has the index of the covered, and the audit trail, learn of each end while it is open."""

    async def keep_ending() -> None:
        while True:
            try:
                await end_covers(local)
            except StoreError as error:
                _log.warning("ends_wait", reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on as long as the service
                _log.exception("covers_not_ended")
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(keep_ending(), name="end covers")
    try:
        yield
    finally:
        await end_tasks(task)
