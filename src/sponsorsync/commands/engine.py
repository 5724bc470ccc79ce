"""The sync engine, opened for a command that works without the service."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sponsorsync.domain.errors import NoDurableError
from sponsorsync.sides import open_sides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sponsorsync.settings import Settings
    from sponsorsync.sync.engine import SyncEngine


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[SyncEngine]:
    """Opens both Redises and yields the engine between them, which does not run yet.

    Raises:
        SettingsError: A setting that the engine needs is missing.
        NoDurableError: No durable Redis is configured.
    """
    settings.require_for_sync()
    async with AsyncExitStack() as stack:
        sides = await open_sides(stack, settings)
        if sides.engine is None:
            raise NoDurableError
        yield sides.engine
