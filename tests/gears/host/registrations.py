"""Registrations, whose steps run for events of keys or for entries of streams."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import cloudpickle

from tests.gears.host.executions import MS, Execution, Step, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gears.host.engine import Engine
    from tests.gears.host.resp import Value
    from tests.gears.host.running import Command
    from tests.gears.host.sessions import Session

    SavedRegistration: TypeAlias = tuple[type["Registration"], dict[str, Any]]

# The number of a registration's executions that RG.DUMPEXECUTIONS lists.
_REMEMBERED: Final = 100


@dataclass(frozen=True)
class Calling:
    """The command, transaction or Lua script that the server is running.

    Attributes:
        names: The names of the hooked commands that run.
        is_lua: Whether a Lua script runs. The host cannot see which commands it calls, so it is
            taken to call every hooked one.
        command: The command whose reply an execution may replace; None in a transaction or script.
    """

    names: frozenset[str] = frozenset()
    is_lua: bool = False
    command: Command | None = None

    def includes(self, commands: list[str]) -> bool:
        """Returns whether a command in `commands` is running, or may be called by a Lua script."""
        return self.is_lua or not self.names.isdisjoint(each.upper() for each in commands)


@dataclass(eq=False)
class Registration:
    """The common part of all registrations: the steps, their worker, and counters of results."""

    reader: ClassVar[str]

    engine: Engine
    id: str
    session: Session
    desc: str | None
    steps: list[Step]
    mode: str
    prefix: str
    triggered: int = 0
    succeeded: int = 0
    failed: int = 0
    aborted: int = 0
    last_run_s: float = 0.0
    total_run_s: float = 0.0
    last_error: str | None = None
    pickled_steps: bytes = b""
    executions: deque[str] = field(default_factory=deque)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.worker = Worker(self.engine.pool)

    def matches(self, key: bytes) -> bool:
        """Returns whether the prefix, a key or one with a trailing asterisk, matches this key."""
        wanted = self.prefix.encode()
        return key.startswith(wanted[:-1]) if wanted.endswith(b"*") else key == wanted

    def start(self) -> None:
        """Starts the registration."""

    def stop(self) -> None:
        """Ends the registration."""

    def to_saved(self) -> SavedRegistration:
        """Returns the class and the arguments that restore the registration after a restart.

        The steps are pickled at the upload, because callbacks may later put values into their
        globals that cannot be pickled. Registrations with the same callbacks share one pickle.
        """
        if not self.pickled_steps:
            callbacks = tuple((step.kind, id(step.callback)) for step in self.steps)
            if callbacks not in self.session.pickles:
                self.session.pickles[callbacks] = cloudpickle.dumps(self.steps)
            self.pickled_steps = self.session.pickles[callbacks]
        names = ("id", "desc", "mode", "prefix", "pickled_steps", *self._own_arguments)
        return type(self), {name: getattr(self, name) for name in names}

    _own_arguments: ClassVar[tuple[str, ...]] = ()

    def _execution(self, read: Any, command: Command | None = None) -> Execution:  # noqa: ANN401
        self.triggered += 1
        execution = self.engine.create_execution(self.session, self.steps, read)
        execution.is_registered = True
        execution.command = command
        execution.on_done = self._count
        self.executions.append(execution.id)
        if len(self.executions) > _REMEMBERED:
            self.engine.executions.pop(self.executions.popleft(), None)
        return execution

    def _count(self, execution: Execution) -> None:
        self.last_run_s = execution.duration_s
        self.total_run_s += execution.duration_s
        if execution.errors:
            self.failed += 1
            self.last_error = execution.errors[0]
        elif execution.status == "aborted":
            self.aborted += 1
        else:
            self.succeeded += 1

    def dump(self, *, with_session: bool = True) -> list[Value]:
        """Returns the registration's entry in RG.DUMPREGISTRATIONS."""
        runs = self.succeeded + self.failed + self.aborted
        data: list[Value] = [
            *(b"mode", self.mode.encode()),
            *(b"numTriggered", self.triggered, b"numSuccess", self.succeeded),
            *(b"numFailures", self.failed, b"numAborted", self.aborted),
            *(b"lastRunDurationMS", int(self.last_run_s * MS)),
            *(b"totalRunDurationMS", int(self.total_run_s * MS)),
            *(b"avgRunDurationMS", self.total_run_s * MS / runs if runs else 0.0),
            *self._lag(),
            *(b"lastError", self.last_error.encode() if self.last_error else None),
            *self._arguments(),
        ]
        return [
            *(b"id", self.id.encode(), b"reader", self.reader.encode()),
            *(b"desc", self.desc.encode() if self.desc else None),
            *(b"RegistrationData", data),
            *((b"PD", self.session.describe()) if with_session else ()),
            *(b"ExecutionThreadPool", b"DefaultPool"),
        ]

    def _lag(self) -> list[Value]:
        return []

    def _arguments(self) -> list[Value]:
        raise NotImplementedError


@dataclass(eq=False)
class KeysRegistration(Registration):
    """Runs its steps for each event of a key; in mode sync before the writer gets its reply.

    The host gets events only after the whole command. So a sync callback runs after a transaction,
    a Lua script or a SPOP with a count, whereas RedisGears runs it at each write within them, and
    before the SPOP is done.
    """

    reader = "KeysReader"
    _own_arguments = ("event_types", "key_types", "commands", "reads_value")

    event_types: list[str] | None = None
    key_types: list[str] | None = None
    commands: list[str] | None = None
    reads_value: bool = True

    def wants(self, event: str, key: bytes, calling: Calling) -> bool:
        """Returns whether the steps run for this event; does not check `key_types`."""
        return (
            self.matches(key)
            and (self.event_types is None or event in {each.lower() for each in self.event_types})
            and (not self.commands or calling.includes(self.commands))
        )

    async def fire(self, event: str, key: bytes, calling: Calling) -> None:
        """Runs the steps at once in mode sync, otherwise after earlier executions."""

        def read() -> Iterator[object]:
            yield from self.engine.read_keys([key], event=event, reads_value=self.reads_value)

        command = calling.command if self.commands else None
        execution = self._execution(read, command)
        if command is not None:
            command.awaits += 1
        if self.mode == "sync":
            execution.is_sync = True
            await asyncio.to_thread(execution.run)
            execution.finish()
        else:
            self.worker.submit(execution)

    def _arguments(self) -> list[Value]:
        def names(values: list[str] | None) -> Value:
            return None if values is None else [each.encode() for each in values]

        return [
            b"args",
            [
                *(b"regex", self.prefix.encode(), b"eventTypes", names(self.event_types)),
                *(b"keyTypes", names(self.key_types), b"hookCommands", names(self.commands)),
            ],
        ]


@dataclass
class _Stream:
    """One stream that a registration reads.

    Attributes:
        unread: The estimated number of unread entries.
        since: The time when the first of them was noticed; None if it is older than the reading.
    """

    key: bytes
    unread: int = 0
    since: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class StreamRegistration(Registration):
    """Runs its steps for batches of entries; all such registrations share one consumer group."""

    reader = "StreamReader"
    _own_arguments = ("batch", "duration_ms", "on_failed", "retry_interval_s", "trims")

    batch: int = 1
    duration_ms: int = 0
    on_failed: str = "continue"
    retry_interval_s: int = 1
    trims: bool = True
    status: str = "OK"
    _streams: dict[bytes, _Stream] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """Finds existing streams and reads them, their pending entries first."""
        self.status = "OK"
        self._own(self._find_streams())

    def stop(self) -> None:
        """Stops reading; a running batch is still acknowledged when it ends."""
        self.status = "UNREGISTERED"
        for stream in self._streams.values():
            stream.changed.set()

    def notice(self, key: bytes) -> None:
        """Handles the notification of a new entry in a stream."""
        if self.status != "OK" or not self.matches(key):
            return
        stream = self._streams.get(key)
        if stream is None:
            self._follow(_Stream(key, since=time.monotonic()))
            return
        stream.unread += 1
        if stream.since is None:
            stream.since = time.monotonic()
        stream.changed.set()

    def _own(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find_streams(self) -> None:
        for key in await self.engine.find_streams(self.prefix):
            if key not in self._streams and self.matches(key):
                self._follow(_Stream(key))

    def _follow(self, stream: _Stream) -> None:
        self._streams[stream.key] = stream
        self._own(self._read_on(stream))

    async def _read_on(self, stream: _Stream) -> None:
        length = await self.engine.own_call(b"XLEN", stream.key)
        stream.unread = length if isinstance(length, int) else 0
        is_well = await self._run_batch(stream, is_pending=True)
        while is_well and self.status == "OK":
            await self._until_due(stream)
            if self.status == "OK":
                is_well = await self._run_batch(stream, is_pending=False)

    async def _until_due(self, stream: _Stream) -> None:
        while self.status == "OK" and stream.unread < self.batch:
            stream.changed.clear()
            rest_s = None
            if stream.unread and stream.since is None:
                return
            if stream.unread and stream.since is not None and self.duration_ms:
                rest_s = stream.since + self.duration_ms / MS - time.monotonic()
            try:
                async with asyncio.timeout(rest_s):
                    await stream.changed.wait()
            except TimeoutError:
                return

    async def _run_batch(self, stream: _Stream, *, is_pending: bool) -> bool:
        """Runs one batch; returns whether the caller may run the next one."""
        ids: list[bytes] = []

        def read() -> Iterator[object]:
            stream.since = None
            count = None if is_pending else self.batch
            for entry_id, record in self.engine.read_group(stream.key, count):
                ids.append(entry_id)
                yield record

        execution = self._execution(lambda: list(read()))
        self.worker.submit(execution)
        await execution.done.wait()
        if execution.errors and self.on_failed != "continue":
            self._fail()
            return False
        await self._acknowledge(stream, ids)
        if not ids and not is_pending and stream.since is None:
            stream.unread = 0  # nothing was left to read, so the estimate was too high
        return True

    async def _acknowledge(self, stream: _Stream, ids: list[bytes]) -> None:
        if not ids:
            return
        stream.unread = max(0, stream.unread - len(ids))
        await self.engine.own_call(b"XACK", stream.key, self.engine.GROUP, *ids)
        if self.trims:
            await self.engine.own_call(b"XTRIM", stream.key, b"MAXLEN", b"%d" % stream.unread)

    def _fail(self) -> None:
        if self.status != "OK":
            return
        for stream in self._streams.values():
            stream.changed.set()
        self._streams = {}
        if self.on_failed == "retry":
            self.status = "WAITING_FOR_RETRY_ON_FAILURE"
            self._own(self._retry())
        else:
            self.status = "ABORTED"

    async def _retry(self) -> None:
        await asyncio.sleep(self.retry_interval_s)
        if self.status == "WAITING_FOR_RETRY_ON_FAILURE":
            self.start()

    def _lag(self) -> list[Value]:
        # The host does not measure the lag.
        return [b"lastEstimatedLagMS", 0, b"avgEstimatedLagMS", 0.0]

    def _arguments(self) -> list[Value]:
        return [
            b"args",
            [
                *(b"batchSize", self.batch, b"durationMS", self.duration_ms),
                *(b"stream", self.prefix.encode(), b"trimStream", int(self.trims)),
                *(b"onFailedPolicy", self.on_failed.encode()),
                *(b"retryInterval", self.retry_interval_s),
            ],
            *(b"status", self.status.encode()),
        ]
