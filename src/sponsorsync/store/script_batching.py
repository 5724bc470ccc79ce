"""Scripts that many requests ask for at the same time, in one round trip."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sponsorsync.store.connect import Argument, RedisStore, Reply, ScriptCall


class ScriptBatching:
    """Runs the scripts that are asked for in one turn of the event loop in one round trip.

    Taking a connection, writing and waiting cost more than most scripts; that is paid once a turn.
    Nobody's answer comes before everybody's, so this is for short scripts that many ask for.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._calls: list[ScriptCall] = []
        self._turn: asyncio.Task[list[Reply | Exception]] | None = None

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Runs a script of `store/lua`; raises what `RedisStore.run_script` does."""
        if self._turn is None:
            self._calls = []
            self._turn = asyncio.create_task(self._run(self._calls))
        place = len(self._calls)
        self._calls.append((name, arguments))
        # Shielded: who goes away must not take the others' answers along.
        reply = (await asyncio.shield(self._turn))[place]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _run(self, calls: list[ScriptCall]) -> list[Reply | Exception]:
        self._turn = None  # who comes from here on is of the next one
        return await self._store.try_calls(calls)
