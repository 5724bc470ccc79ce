"""Script batching: scripts that run at the same time share one round trip."""

import asyncio

from sponsorsync.store.connect import Argument, RedisStore, Reply, ScriptCall


class ScriptBatching:
    """Runs all scripts that are called in one turn of the event loop in one round trip.

    Taking a connection, writing and waiting cost more than most scripts. All callers of a turn get
    their replies together, so this is for short scripts with many callers.
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
        # Shielded, so that a cancelled caller does not cancel the others.
        reply = (await asyncio.shield(self._turn))[place]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _run(self, calls: list[ScriptCall]) -> list[Reply | Exception]:
        self._turn = None  # later callers start the next turn
        return await self._store.try_calls(calls)
