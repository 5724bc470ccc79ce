"""Opening of the sync engine for commands that run without the service."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sponsorsync.domain.errors import NoDurableError
from sponsorsync.redis_pair import open_redis_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sponsorsync.settings import Settings
    from sponsorsync.sync.engine import SyncEngine


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[SyncEngine]:
    """Opens both Redises and yields the engine between them without starting its loops.

    Raises:
        SettingsError: A setting that the engine needs is missing.
        NoDurableError: No durable Redis is configured.
    """
    settings.require_for_sync()
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        if redis_pair.engine is None:
            raise NoDurableError
        yield redis_pair.engine
