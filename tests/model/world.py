"""Two servers, several replicas of the service, a proxy on each way, and all that can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.client import open_gears
from sponsorsync.gears.deploy import deploy
from sponsorsync.gears.scripts import REGISTERING, GearsConfig, load_scripts
from sponsorsync.sandbox.valkey import find_free_port, run_valkey
from tests.gears.host.process import HostProcess
from tests.gears.real import REAL_COMMAND, RealEngine
from tests.support.proxy import TcpProxy, run_proxy

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping

    from sponsorsync.sandbox.valkey import EmbeddedValkey

ROOT = Path(__file__).resolve().parents[2]
SERVICE = Path(__file__).with_name("service.py")
SOURCE_VARIABLE = "SPONSORSYNC_MODEL_SOURCE"
"""A folder that goes first on the replicas' PYTHONPATH: to see that a broken guard is noticed."""

SPONSORABLE = "maintainer"
COLLECTIONS = ("mnodes", "snodes")

# Away from where other tests look for free ports: a server that is down must not be taken for one
# of theirs.
_FIRST_PORT = 20_000
_PORTS = 10_000
_ANSWER_S = 40.0
_READY_S = 30.0
_DEPLOY_S = 120.0
_MAY_NOT_RESTORE = "default on nopass ~* &* +@all -restore"


class LostAnswerError(Exception):
    """Nobody knows whether it happened."""


class BrokenReplicaError(Exception):
    """A replica did what it never should: ended by itself, or did not answer for very long."""


class Running(Protocol):
    """A server's process."""

    @property
    def pid(self) -> int:
        """Whom to send a signal."""


@dataclass
class Server:
    """One Valkey, on one port and one directory, through all its incarnations."""

    name: str
    directory: Path
    port: int
    may_restore: bool
    is_stopped: bool = False
    running: Running | None = None
    _valkey: EmbeddedValkey | None = None
    _stack: AsyncExitStack | None = None

    async def start(self) -> None:
        """Starts it on what it has written."""
        if self.running is not None:
            return
        stack = AsyncExitStack()
        valkey = await stack.enter_async_context(
            run_valkey(
                self.directory,
                name=self.name,
                port=self.port,
                appendfsync="always",
                extra_config={
                    "aof-timestamp-enabled": "yes",
                    "enable-debug-command": "no",
                    **({} if self.may_restore else {"user": _MAY_NOT_RESTORE}),
                },
            )
        )
        self.running, self._valkey, self._stack = valkey, valkey, stack

    async def kill(self) -> None:
        """SIGKILL."""
        if self._valkey is not None and self._stack is not None:
            os.kill(self._valkey.pid, signal.SIGKILL)
            await self._valkey.wait_closed()
            await self._stack.aclose()
        self.running, self._valkey, self.is_stopped = None, None, False

    def stop(self) -> None:
        """SIGSTOP: it takes connections (the kernel does), and answers nothing."""
        if self.running is not None:
            os.kill(self.running.pid, signal.SIGSTOP)
            self.is_stopped = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.running is not None and self.is_stopped:
            os.kill(self.running.pid, signal.SIGCONT)
        self.is_stopped = False


@dataclass
class GearsServer(Server):
    """A local Redis with RedisGears: the test host, or the engine itself where a command is given.

    Attributes:
        environment: What the scripts find in theirs.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    _process: HostProcess | RealEngine | None = None

    async def start(self) -> None:
        """Starts it on what it has written."""
        if self.running is not None:
            return
        if REAL_COMMAND:
            self._process = RealEngine(REAL_COMMAND, self.directory, self.port, self.environment)
        else:
            self._process = HostProcess(self.directory, self.environment, port=self.port)
        await self._process.start()
        self.running = self._process

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            await self._process.kill()
        self.running, self._process, self.is_stopped = None, None, False

    async def deploy(self) -> None:
        """Brings in the scripts as they are shipped."""
        config = GearsConfig(Catalog((SPONSORABLE,), COLLECTIONS), hook_profiles=False)
        url = SecretStr(f"redis://127.0.0.1:{self.port}/0")
        async with open_gears(url, upload_timeout_s=_DEPLOY_S) as client:
            outcomes = await deploy(client, load_scripts(REGISTERING, config), limit_s=_DEPLOY_S)
        failed = [each.error for each in outcomes if not each.is_settled]
        if failed:
            raise RuntimeError(f"the scripts are not live: {failed}")


@dataclass
class Replica:
    """One process of the service, through all its incarnations, and its two ways to the servers."""

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
        """Whether it takes operations; it may be stopped, then it answers later."""
        return self._process is not None

    async def start(self) -> None:
        """Starts a new process and waits until it takes operations."""
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
        """Performs an operation.

        Raises:
            LostAnswerError: The process was killed meanwhile.
            BrokenReplicaError: It does not answer at all.
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
        """SIGKILL."""
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
        """SIGSTOP, wherever it is at the moment."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.is_stopped = True

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None and self.is_stopped:
            self._process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def _write(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read_answers(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise AssertionError("it has a pipe")
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
    """All of it."""

    local: Server
    durable: Server
    replicas: list[Replica]
    look_local: Redis
    look_durable: Redis
    history: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Adds a line to the history, which is shown when something is wrong."""
        self.history.append(f"{time.monotonic() - self.started:8.3f} {text}")

    @property
    def _is_anything_held(self) -> bool:
        return self.local.is_stopped or any(
            each.is_stopped or each.to_local.is_stalled for each in self.replicas
        )

    async def wait_until_nothing_is_held(self) -> None:
        """Returns when no write of before, whose answer was lost, can be done any more."""
        while self._is_anything_held:  # noqa: ASYNC110 - of many things, and each for moments
            await asyncio.sleep(0.02)
        # What left the proxy is in the server's socket.
        await asyncio.sleep(0.15)

    def choose_replica(self, rng: random.Random) -> Replica | None:
        """Returns one that runs, or None."""
        running = [each for each in self.replicas if each.is_running]
        return rng.choice(running) if running else None

    async def end_all_faults(self) -> None:
        """Everything runs, anew, and nothing stands in the way."""
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
    """Starts two servers and the replicas; whatever happens, nothing of it is left."""
    start = _FIRST_PORT + rng.randrange(_PORTS // 2) + os.getpid() * 7 % (_PORTS // 2)
    # Where a server restores no dumps, parts travel as values.
    may_restore = rng.random() < 0.5
    port = find_free_port(start)
    durable = Server("durable", directory / "durable", find_free_port(port + 1), may_restore)
    local = Server("local", directory / "local", port, may_restore)
    if engine == "gears":
        environment = {"REDISENT_HOST": "127.0.0.1", "REDISENT_PORT": str(durable.port)}
        local = GearsServer(
            "local", directory / "local", port, may_restore, environment=environment
        )
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
        looks = [
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
        yield World(local, durable, pool, look_local=looks[0], look_durable=looks[1])
