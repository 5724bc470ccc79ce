"""A Redis with RedisGears: the test host, or a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.gears.host.process import HostProcess
from tests.support.waiting import until


@dataclass
class Gears:
    """A Redis with the engine.

    Attributes:
        url: Its address.
        client: Speaks RESP3, the default of redis-py, and returns bytes; `run` returns replies as
            they are in the protocol.
        durable: The server at `durable_url`, which the environment of scripts names.
    """

    url: str
    client: Redis
    durable: Redis
    durable_url: str
    _plain: Redis
    _host: HostProcess | None = None

    @property
    def is_real(self) -> bool:
        """Whether it is the engine itself."""
        return self._host is None

    async def run(self, *command: str | bytes | int) -> Any:  # noqa: ANN401 - a reply
        """Runs a command and returns the reply."""
        return await self._plain.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's

    async def upload(self, script: str, *options: str) -> Any:  # noqa: ANN401 - a reply
        """Uploads a script and returns the reply."""
        return await self.run("RG.PYEXECUTE", script, *options)

    async def registrations(self) -> list[dict[str, Any]]:
        """Returns the parsed registrations, the oldest first."""
        found = []
        for entry in await self.run("RG.DUMPREGISTRATIONS"):
            registration = as_dict(entry)
            registration["RegistrationData"] = as_dict(registration["RegistrationData"])
            registration["args"] = as_dict(registration["RegistrationData"]["args"])
            found.append(registration)
        return sorted(found, key=lambda each: int(each["id"].rpartition(b"-")[2]))

    async def sessions(self) -> dict[str, dict[str, Any]]:
        """Returns the sessions by their ids."""
        entries = [as_dict(entry) for entry in await self.run("RG.PYDUMPSESSIONS")]
        return {entry["ID"].decode(): entry for entry in entries}

    async def restart(self, *, kill: bool = True) -> None:
        """Ends its process, by SIGKILL or SIGTERM, and starts it again on its files.

        A real engine does both itself; a test that needs this uses `own_gears`.
        """
        if self._host is None:
            with suppress(RedisConnectionError):
                await self.run("DEBUG", "CRASH-AND-RECOVER" if kill else "RESTART")
            await until(self._is_back)
        else:
            await (self._host.kill() if kill else self._host.stop())
            await self._host.start()
        for client in (self.client, self._plain):
            await client.connection_pool.disconnect()

    async def _is_back(self) -> bool:
        with suppress(RedisConnectionError, BusyLoadingError):
            return bool(await self.client.ping())
        return False

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Redis]:  # noqa: ANN401 - redis-py's
        """Yields another client with these options."""
        async with Redis.from_url(self.url, **options) as client:
            yield client

    async def clear(self) -> None:
        """Removes all registrations, executions and keys."""
        async with self._plain.pipeline(transaction=False) as together:
            for registration in await self.run("RG.DUMPREGISTRATIONS"):
                together.execute_command("RG.UNREGISTER", registration[1])
            await together.execute()
        await self.client.flushall()  # ends callbacks that wait for a missing key
        await until(self._has_no_execution)
        await until(self._has_no_session)
        await self.client.flushall()
        await self.durable.flushall()

    async def forget_history(self) -> None:
        """Rewrites the append-only file, so that it has only present registrations.

        A real engine that loads ended registrations of streams keeps their sessions.
        """

        async def is_rewritten() -> bool:
            facts = await self.client.info("persistence")
            return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])

        await self.run("BGREWRITEAOF")
        await until(is_rewritten)

    async def _has_no_execution(self) -> bool:
        executions = [each[1] for each in await self.run("RG.DUMPEXECUTIONS")]
        for execution in executions:
            with suppress(ResponseError):  # it still runs, or was dropped
                await self.run("RG.ABORTEXECUTION", execution)
                await self.run("RG.DROPEXECUTION", execution)
        return not executions

    async def _has_no_session(self) -> bool:
        # A stream reader that waits for a retry keeps its session a little longer.
        return not await self.sessions()


def as_dict(flat: list[Any]) -> dict[str, Any]:
    """Returns the engine's flat list as a dict."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
