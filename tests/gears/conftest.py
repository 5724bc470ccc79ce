"""An engine to run scripts on: the test host, or a real one where the environment names it."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from sponsorsync.gears.scripts import REGISTERING
from tests.gears.host.process import HostProcess, run_host
from tests.support.gears import write_scripts
from tests.support.shipped import run_shipped
from tests.support.sync import own_server
from tests.support.waiting import until
from tests.support.wheel import install_wheel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.support.shipped import Shipped
    from tests.support.sync import OwnServer

REAL_URL = os.environ.get("SPONSORSYNC_TEST_GEARS_URL", "")
REAL_DURABLE_URL = os.environ.get("SPONSORSYNC_TEST_DURABLE_URL", "")


@dataclass
class Gears:
    """A Redis with the engine.

    Attributes:
        url: Its address.
        client: Speaks RESP3 as redis-py does by default, and gives bytes; `run` does so too, but
            leaves replies as the protocol has them.
        durable: The server that scripts find by their environment, at `durable_url`.
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
        """Returns what is registered, the oldest first, and of that the data within."""
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
        """Ends its process, by SIGKILL or properly, and starts it on what it has written.

        A real engine does so itself; a test that needs it asks for `own_gears`.
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
        """Yields one more client, with options of its own."""
        async with Redis.from_url(self.url, **options) as client:
            yield client

    async def clear(self) -> None:
        """Leaves nothing registered, nothing running, and no key."""
        async with self._plain.pipeline(transaction=False) as together:
            for registration in await self.run("RG.DUMPREGISTRATIONS"):
                together.execute_command("RG.UNREGISTER", registration[1])
            await together.execute()
        await self.client.flushall()  # what a callback waits for in vain is not there
        await until(self._has_no_execution)
        await until(self._has_no_session)
        await self.client.flushall()
        await self.durable.flushall()

    async def forget_history(self) -> None:
        """Leaves in the append-only file what is registered, and not how it came to be so.

        A real engine that reads of streams' registrations and of their end holds their sessions on.
        """

        async def is_rewritten() -> bool:
            facts = await self.client.info("persistence")
            return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])

        await self.run("BGREWRITEAOF")
        await until(is_rewritten)

    async def _has_no_execution(self) -> bool:
        executions = [each[1] for each in await self.run("RG.DUMPEXECUTIONS")]
        for execution in executions:
            with suppress(ResponseError):  # it is not at its end yet, or somebody dropped it
                await self.run("RG.ABORTEXECUTION", execution)
                await self.run("RG.DROPEXECUTION", execution)
        return not executions

    async def _has_no_session(self) -> bool:
        # A reader that waits to try again holds its own a little longer.
        return not await self.sessions()


def as_dict(flat: list[Any]) -> dict[str, Any]:
    """Returns the engine's flat list as a dict."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


@pytest.fixture(scope="session")
def gears_environment(durable_server: EmbeddedValkey) -> Mapping[str, str]:
    """What scripts find in their environment."""
    durable = urlsplit(durable_server.url)
    return {"REDISENT_HOST": str(durable.hostname), "REDISENT_PORT": str(durable.port)}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gears_host(
    tmp_path_factory: pytest.TempPathFactory, gears_environment: Mapping[str, str]
) -> AsyncIterator[HostProcess | None]:
    """One host for each test process; None where there is a real engine."""
    if REAL_URL:
        yield None
        return
    async with run_host(tmp_path_factory.mktemp("gears"), gears_environment) as host:
        yield host


@pytest.fixture
async def gears(
    gears_host: HostProcess | None, durable_server: EmbeddedValkey
) -> AsyncIterator[Gears]:
    """The engine, with nothing in it."""
    url = gears_host.url if gears_host is not None else REAL_URL
    durable_url = durable_server.url if gears_host is not None else REAL_DURABLE_URL
    async with (
        Redis.from_url(url, socket_timeout=20) as client,
        Redis.from_url(url, socket_timeout=20) as plain,
        Redis.from_url(durable_url, decode_responses=True) as durable,
    ):
        plain.response_callbacks.clear()
        engine = Gears(url, client, durable, durable_url, plain, gears_host)
        await engine.clear()
        yield engine


@pytest.fixture
async def shipped(gears: Gears) -> AsyncIterator[Shipped]:
    """The engine for our scripts, and a replica of the service; none is uploaded yet."""
    async with run_shipped(gears, gears.durable_url) as opened:
        yield opened


@pytest.fixture
async def live(shipped: Shipped) -> Shipped:
    """The same with both scripts that register."""
    await shipped.upload(*REGISTERING)
    return shipped


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A durable that may be spoiled."""
    async with own_server(tmp_path / "own") as server:
        yield server


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation from the wheel, built once for all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = folder / "wheel" / "installed"
        return installed if installed.exists() else install_wheel(folder / "wheel")


@pytest.fixture
def own_installed(installed: Path, tmp_path: Path) -> Path:
    """A copy for one test, with short scripts in place of ours."""
    own = Path(shutil.copytree(installed, tmp_path / "installed"))
    write_scripts(own / "sponsorsync" / "gears" / "scripts")
    return own


@pytest.fixture
async def own_gears(gears: Gears) -> Gears:
    """The engine, where its process is ours to end."""
    if gears.is_real:
        try:
            await gears.run("DEBUG", "SLEEP", 0)
        except ResponseError as error:
            pytest.skip(f"the engine cannot be restarted: {error}")
        await gears.forget_history()
    return gears
