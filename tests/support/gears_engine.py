"""Access to a Redis with RedisGears, which is the test host or a real one."""

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
    """A Redis with RedisGears.

    Attributes:
        url: The address of the Redis.
        client: A client in RESP3, redis-py's default, that returns bytes. `run` uses another one,
            which does not convert replies.
        durable: A client of the server at `durable_url`, which the scripts' environment names.
    """

    url: str
    client: Redis
    durable: Redis
    durable_url: str
    _plain: Redis
    _host: HostProcess | None = None

    @property
    def is_real(self) -> bool:
        """Whether this is a real RedisGears and not the test host."""
        return self._host is None

    async def run(self, *command: str | bytes | int) -> Any:  # noqa: ANN401 - a reply
        """Runs a command; returns the reply without conversion."""
        return await self._plain.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's

    async def upload(self, script: str, *options: str) -> Any:  # noqa: ANN401 - a reply
        """Uploads a script; returns the reply."""
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
        """Ends the server's process, by SIGKILL or SIGTERM, and starts it again on its files.

        A real server restarts itself by DEBUG; the fixture `own_gears` checks that it may.
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
        await self.client.flushall()  # this ends callbacks that wait until a key is missing
        await until(self._has_no_execution)
        await until(self._has_no_session)
        await self.client.flushall()
        await self.durable.flushall()

    async def forget_history(self) -> None:
        """Rewrites the append-only file, so that it contains only the present registrations.

        Otherwise a real engine that restarts keeps the sessions of ended stream registrations.
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
    """Returns a flat list of names and values as a dict."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
