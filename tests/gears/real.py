"""Runs a real RedisGears as a process of one test, which may kill and restart it."""

import asyncio
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.waiting import until

REAL_COMMAND = os.environ.get("SPONSORSYNC_TEST_GEARS_COMMAND", "")
"""A command with `{port}` and `{folder}` that runs a Redis with RedisGears in the foreground."""

_START_S = 60


@dataclass
class RealEngine:
    """A Redis with RedisGears on its own port and folder."""

    command: str
    folder: Path
    port: int
    environment: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process id of the server; the command has to become the server by `exec`."""
        if self._process is None:
            raise ProcessLookupError("it does not run")
        return self._process.pid

    async def start(self) -> None:
        """Starts the server, and waits until it answers."""
        command = self.command.format(port=self.port, folder=self.folder)
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            shlex.split(command),
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        async with Redis(port=self.port, socket_timeout=1) as client:

            async def serves() -> bool:
                with suppress(RedisError):
                    return bool(await client.ping())
                return False

            await until(serves, limit_s=_START_S)

    async def kill(self) -> None:
        """Ends the server by SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
