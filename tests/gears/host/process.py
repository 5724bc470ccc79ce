"""Starts and ends the process of the host, also to restart it on the same files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

STOP_LIMIT_S = 20
_FOREIGN = ("SPONSORSYNC_", "REDISENT_", "GITHUB_")


@dataclass
class HostProcess:
    """A host that may be restarted; it keeps its port and folder.

    Attributes:
        environment: Variables for scripts in addition to those of this process.
        threads: The number of executions that may run at once.
    """

    folder: Path
    environment: Mapping[str, str]
    threads: int = 3
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _valkey_pid: int = 0

    @property
    def pid(self) -> int:
        """The process id of the host; its Valkey is another process."""
        if self._process is None:
            raise ProcessLookupError("it does not run")
        return self._process.pid

    @property
    def url(self) -> str:
        """The address for a Redis client."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Starts the host, and waits until it serves."""
        command = [sys.executable, "-m", "tests.gears.host", "--ends-with-parent"]
        options = {"--folder": self.folder, "--port": self.port, "--threads": self.threads}
        for name, value in options.items():
            command += [name, str(value)]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)
        }
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, **self.environment},
        )
        line = await asyncio.to_thread(cast("IO[bytes]", self._process.stdout).readline)
        if not line:
            raise RuntimeError("the host does not start; what it says is on standard error")
        facts = json.loads(line)
        self.port, self._valkey_pid = facts["port"], facts["valkey_pid"]

    async def kill(self) -> None:
        """Ends the host and its Valkey by SIGKILL."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._valkey_pid, signal.SIGKILL)
            self._process.kill()
            await self._wait()

    async def stop(self) -> None:
        """Ends the host by SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            await self._wait()

    async def _wait(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.communicate, timeout=STOP_LIMIT_S)


@asynccontextmanager
async def run_host(
    folder: Path, environment: Mapping[str, str], *, threads: int = 3
) -> AsyncIterator[HostProcess]:
    """Runs a host; stops it at the end."""
    host = HostProcess(folder, environment, threads)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
