"""Script batching: calls of scripts at the same time share one round trip."""

import asyncio

from sponsorsync.store.connect import Argument, RedisStore, Reply, ScriptCall


class ScriptBatching:
    """Runs all scripts that are called in one iteration of the event loop in one round trip.

    A round trip takes more time than most scripts. All callers of one batch get their replies
    together, so batching suits short scripts with many callers.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._calls: list[ScriptCall] = []
        self._turn: asyncio.Task[list[Reply | Exception]] | None = None

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Runs a script of `store/lua`; raises the same errors as `RedisStore.run_script`."""
        if self._turn is None:
            self._calls = []
            self._turn = asyncio.create_task(self._run(self._calls))
        place = len(self._calls)
        self._calls.append((name, arguments))
        # Shielded, so that a cancelled caller does not cancel the other callers' scripts.
        reply = (await asyncio.shield(self._turn))[place]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _run(self, calls: list[ScriptCall]) -> list[Reply | Exception]:
        self._turn = None  # later callers start the next batch
        return await self._store.try_calls(calls)
