"""The processes of a run: two servers, and replicas that reach these through proxies."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.client import open_gears
from sponsorsync.gears.deploy import deploy
from sponsorsync.gears.scripts import REGISTERING, GearsConfig, load_scripts
from sponsorsync.sandbox.valkey import find_free_port
from tests.gears.host.process import HostProcess
from tests.gears.real import REAL_COMMAND, RealEngine
from tests.support.proxy import TcpProxy, run_proxy
from tests.support.sync import OwnServer

ROOT = Path(__file__).resolve().parents[2]
SERVICE = Path(__file__).with_name("service.py")
SOURCE_VARIABLE = "SPONSORSYNC_MODEL_SOURCE"
"""A folder that replicas import first, to check that the test notices a broken guard in it."""

SPONSORABLE = "maintainer"
COLLECTIONS = ("mnodes", "snodes")

# Other tests use other ports, so that none takes over the port of a server that is down.
_FIRST_PORT = 20_000
_PORTS = 10_000
_ANSWER_S = 40.0
_READY_S = 30.0
_DEPLOY_S = 120.0
_MAY_NOT_RESTORE = "default on nopass ~* &* +@all -restore"


class LostAnswerError(Exception):
    """The replica was killed before its answer, so the operation may have happened or not."""


class BrokenReplicaError(Exception):
    """A replica ended without being killed, or did not answer for very long."""


@dataclass
class Server(OwnServer):
    """A Valkey; if it may not RESTORE, data are sent to it as values instead of dumps."""

    may_restore: bool = True

    async def start(self, **config: str) -> None:
        """Starts it with the data on its disk, unless it runs."""
        if not self.may_restore:
            config["user"] = _MAY_NOT_RESTORE
        await super().start(aof_timestamp_enabled="yes", enable_debug_command="no", **config)


@dataclass
class GearsServer(Server):
    """A local Redis with RedisGears: the test host, or a real one if REAL_COMMAND is set.

    Attributes:
        environment: The environment variables of the scripts.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    _process: HostProcess | RealEngine | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process; it may be stopped by SIGSTOP."""
        return self._process is not None

    async def start(self, **_: str) -> None:
        """Starts it with the data on its disk, unless it runs."""
        if self._process is not None:
            return
        if REAL_COMMAND:
            process: HostProcess | RealEngine = RealEngine(
                REAL_COMMAND, self.directory, self.port, self.environment
            )
        else:
            process = HostProcess(self.directory, self.environment, port=self.port)
        try:
            await process.start()
        except BaseException:
            await process.kill()
            raise
        self._process = process

    async def kill(self) -> None:
        """Ends the process by SIGKILL."""
        if self._process is not None:
            await self._process.kill()
        self._process, self.is_stopped = None, False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    async def deploy(self) -> None:
        """Deploys the shipped scripts."""
        config = GearsConfig(Catalog((SPONSORABLE,), COLLECTIONS), hook_profiles=False)
        url = SecretStr(f"redis://127.0.0.1:{self.port}/0")
        async with open_gears(url, upload_timeout_s=_DEPLOY_S) as client:
            outcomes = await deploy(client, load_scripts(REGISTERING, config), limit_s=_DEPLOY_S)
        failed = [each.error for each in outcomes if not each.is_settled]
        if failed:
            raise RuntimeError(f"the scripts are not live: {failed}")


@dataclass
class Replica:
    """A replica of the service that may be restarted, with its proxies to the two servers."""

    number: int
    log: Path
    to_local: TcpProxy
    to_durable: TcpProxy
    engine: str
    is_stopped: bool = False
    _process: asyncio.subprocess.Process | None = None
    _reader: asyncio.Task[None] | None = None
    _is_killed: bool = False
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _count: int = 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process; if it is stopped by SIGSTOP, it answers later."""
        return self._process is not None

    async def start(self) -> None:
        """Starts a process unless there is one, and waits until it accepts operations."""
        if self._process is not None:
            return
        source = os.environ.get(SOURCE_VARIABLE)
        path = os.pathsep.join(filter(None, (source, str(ROOT))))
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(SERVICE)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                limit=2**20,
            )
        self._process, self._is_killed = process, False
        ready = asyncio.get_running_loop().create_future()
        self._waiting = {0: ready}
        self._reader = asyncio.create_task(self._read_answers(process))
        config = {
            "local": f"redis://127.0.0.1:{self.to_local.port}/0",
            "durable": f"redis://127.0.0.1:{self.to_durable.port}/0",
            "sponsorable": SPONSORABLE,
            "collections": COLLECTIONS,
            "engine": self.engine,
        }
        self._write(config)
        try:
            async with asyncio.timeout(_READY_S):
                await ready
        except (TimeoutError, LostAnswerError) as error:
            raise BrokenReplicaError(f"replica {self.number} does not start") from error

    async def call(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Performs an operation; returns the answer.

        Raises:
            LostAnswerError: The process was killed before its answer.
            BrokenReplicaError: The replica does not answer.
        """
        if self._process is None:
            raise LostAnswerError
        self._count += 1
        number = self._count
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._write({"n": number, **operation})
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await answer
        except TimeoutError:
            raise BrokenReplicaError(f"replica {self.number}: no answer to {operation}") from None
        finally:
            self._waiting.pop(number, None)

    async def kill(self) -> None:
        """Ends the process by SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        self._is_killed = True
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        self.is_stopped = False
        if self._reader is not None:
            await self._reader

    def stop(self) -> None:
        """Stops the process by SIGSTOP, wherever it is in its code."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.is_stopped = True

    def resume(self) -> None:
        """Continues the process by SIGCONT."""
        if self._process is not None and self.is_stopped:
            self._process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def _write(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read_answers(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise AssertionError("the process has a pipe")
        while line := await process.stdout.readline():
            message = json.loads(line)
            answer = self._waiting.get(message["n"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        is_killed = self._is_killed
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(
                    LostAnswerError()
                    if is_killed
                    else BrokenReplicaError(f"replica {self.number} ended; see {self.log}")
                )


@dataclass
class World:
    """The servers, the replicas, and direct clients of the servers.

    Attributes:
        history: The events so far, which are shown after a failure.
    """

    local: Server
    durable: Server
    replicas: list[Replica]
    look_local: Redis
    look_durable: Redis
    history: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def record(self, text: str) -> None:
        """Adds a line to the history."""
        self.history.append(f"{time.monotonic() - self.started:8.3f} {text}")

    @property
    def _is_anything_held(self) -> bool:
        return self.local.is_stopped or any(
            each.is_stopped or each.to_local.is_stalled for each in self.replicas
        )

    async def wait_until_nothing_is_held(self) -> None:
        """Waits until no earlier write without an answer can still be applied."""
        while self._is_anything_held:  # noqa: ASYNC110 - several objects change it
            await asyncio.sleep(0.02)
        # The server may not yet have read bytes that the proxy has sent.
        await asyncio.sleep(0.15)

    def choose_replica(self, rng: random.Random) -> Replica | None:
        """Returns a running replica, or None."""
        running = [each for each in self.replicas if each.is_running]
        return rng.choice(running) if running else None

    async def end_all_faults(self) -> None:
        """Restarts the replicas and repairs all servers and connections."""
        for server in (self.local, self.durable):
            server.resume()
            await server.start()
        for replica in self.replicas:
            replica.to_local.flow()
            replica.to_durable.flow()
            replica.resume()
        await asyncio.gather(*(each.kill() for each in self.replicas))
        await asyncio.gather(*(each.start() for each in self.replicas))


@asynccontextmanager
async def open_world(
    directory: Path, rng: random.Random, *, replicas: int, engine: str
) -> AsyncIterator[World]:
    """Starts two servers and the replicas, and ends all of them afterwards."""
    start = _FIRST_PORT + rng.randrange(_PORTS // 2) + os.getpid() * 7 % (_PORTS // 2)
    may_restore = rng.random() < 0.5
    port = find_free_port(start)
    durable = Server(
        directory / "durable", find_free_port(port + 1), "durable", may_restore=may_restore
    )
    local = Server(directory / "local", port, "local", may_restore=may_restore)
    if engine == "gears":
        environment = {"REDISENT_HOST": "127.0.0.1", "REDISENT_PORT": str(durable.port)}
        local = GearsServer(directory / "local", port, "local", environment=environment)
    async with AsyncExitStack() as stack:
        for server in (local, durable):
            stack.push_async_callback(server.kill)
        await asyncio.gather(local.start(), durable.start())
        if isinstance(local, GearsServer):
            await local.deploy()
        pool = []
        for number in range(replicas):
            replica = Replica(
                number,
                directory / f"replica-{number}.log",
                await stack.enter_async_context(run_proxy(local.port)),
                await stack.enter_async_context(run_proxy(durable.port)),
                engine,
            )
            stack.push_async_callback(replica.kill)
            pool.append(replica)
        watchers = [
            await stack.enter_async_context(
                Redis.from_url(
                    f"redis://127.0.0.1:{server.port}/0",
                    decode_responses=True,
                    socket_timeout=10,
                    retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 2),
                )
            )
            for server in (local, durable)
        ]
        await asyncio.gather(*(each.start() for each in pool))
        yield World(local, durable, pool, look_local=watchers[0], look_durable=watchers[1])
