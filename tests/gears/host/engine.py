"""The engine: serializes all changes of the server, and passes its events to registrations.

Each change of the server holds a lock, the *turn*: a client's command with the sync callbacks that
it triggers, a script's `execute`, the body of a script, an `atomic` block. So a sync callback has
run before the writer gets its reply, and no other command runs between the two.

The engine learns of changed keys from Valkey's keyspace notifications, on a connection of their
own. It sends a PING there after each command; when the reply comes, all notifications of the
command have been received.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests.gears.host.executions import Execution, Step, Worker
from tests.gears.host.registrations import (
    Calling,
    KeysRegistration,
    Registration,
    StreamRegistration,
)
from tests.gears.host.resp import Failure, Frames, Value, decode, encode_command
from tests.gears.host.running import RUNNING, Command, describe
from tests.gears.host.script import to_python
from tests.gears.host.sessions import Session, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from pathlib import Path
    from types import FunctionType

HOST: Final = "127.0.0.1"
SAVED: Final = "registrations.pickle"
ALL_FLAGS: Final = "KEAm"
_SHARD: Final = "0" * 40
_SCAN_COUNT: Final = b"1000"

# OBJECT is the only reading command that sends no keymiss notification.
_READ_KEYS: Final = b"""
local records = {}
for i, key in ipairs(KEYS) do
    local kind, value = 'empty', false
    if redis.call('OBJECT', 'ENCODING', key) then
        kind = redis.call('TYPE', key).ok
        if kind == 'string' then value = redis.call('GET', key) end
        if kind == 'list' then value = redis.call('LRANGE', key, 0, -1) end
        if kind == 'hash' then value = redis.call('HGETALL', key) end
    end
    records[i] = {kind, value}
end
return records
"""
_UNKNOWN_TYPES: Final = ("stream",)


@dataclass(frozen=True)
class CommandFacts:
    """Facts about a command, from COMMAND INFO."""

    flags: frozenset[str]
    first_key: int
    last_key: int
    step: int

    def keys_of(self, arguments: list[bytes]) -> list[bytes]:
        """Returns the keys among a command's arguments."""
        last = self.last_key if self.last_key >= 0 else len(arguments) + self.last_key
        return arguments[self.first_key : last + 1 : self.step]


class Link:
    """A connection to Valkey."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.frames = Frames(reader)
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Link:
        """Connects to Valkey at a port."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def ask(self, *arguments: bytes) -> bytes:
        """Sends a command; returns its reply as an undecoded RESP frame."""
        self.writer.write(encode_command(arguments))
        return await self.frames.next()

    def close(self) -> None:
        """Disconnects."""
        self.writer.close()


@dataclass(eq=False)
class Engine:
    """The engine of this process, over one Valkey.

    Attributes:
        config: The values set by RG.CONFIGSET.
        threads: The number of threads on which executions run.
    """

    GROUP: ClassVar[bytes] = b"__gears_consumer_group__"

    folder: Path
    threads: int
    own: Link
    events_link: Link
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    config: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    registrations: list[Registration] = field(default_factory=list)
    executions: dict[str, Execution] = field(default_factory=dict)
    pool: ThreadPoolExecutor = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _calling: Calling = field(default_factory=Calling)
    _events: deque[tuple[str, bytes]] = field(default_factory=deque)
    _pong: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Task[None] | None = None
    _commands: dict[str, CommandFacts] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="gears")

    # The turn

    @asynccontextmanager
    async def calling(self, calling: Calling) -> AsyncIterator[None]:
        """Holds the engine's lock while a client's command runs.

        Handles the keyspace events of the command before it releases the lock.
        """
        async with self.turn:
            self._calling = calling
            try:
                yield
                await self._see_to_events()
            finally:
                self._calling = Calling()

    async def take_turn(self) -> None:
        """Acquires the turn for the thread of a script."""
        await self.turn.acquire()

    async def end_turn(self) -> None:
        """Releases the turn."""
        self.turn.release()

    async def call(
        self, arguments: list[bytes], *, has_turn: bool = False, in_event: bool = False
    ) -> Value:
        """Runs a command that a script or the engine itself calls; returns its reply."""
        if not has_turn:
            async with self.turn:
                return await self.call(arguments, has_turn=True, in_event=in_event)
        before, self._calling = self._calling, self.find_hooks(arguments)
        try:
            reply = decode(await self.own.ask(*arguments))
            await self._see_to_events(in_event=in_event)
        finally:
            self._calling = before
        return reply

    async def own_call(self, *arguments: bytes) -> Value:
        """Runs a command of the engine itself; returns its reply."""
        return await self.call(list(arguments))

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - any coroutine's result
        """Runs a coroutine on the event loop for the thread of a script; returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # Events

    async def listen(self) -> None:
        """Receives keyspace notifications as long as the connection is open."""
        while True:
            message = decode(await self.events_link.frames.next())
            if not isinstance(message, list):
                continue
            if message[0] == b"pong":
                self._pong.set()
            elif message[0] == b"pmessage" and self.registrations:
                event = bytes(message[2]).partition(b":")[2].decode()
                self._events.append((event, message[3]))
                if self._idle is None:
                    self._idle = asyncio.create_task(self._see_to_idle_events())

    async def _see_to_idle_events(self) -> None:
        """Handles events that no current command caused: an expiry, an eviction, a woken client."""
        async with self.turn:
            self._idle = None
            await self._see_to_events()

    async def _see_to_events(self, *, in_event: bool = False) -> None:
        if not self.registrations:
            return
        await self._hear_all()
        events = list(self._events)
        self._events.clear()
        for at, (event, key) in enumerate(events):
            standing = _standing_at(at, events)
            await self._dispatch(event, key, standing, in_event=in_event)

    async def _hear_all(self) -> None:
        self._pong.clear()
        self.events_link.writer.write(encode_command([b"PING"]))
        await self._pong.wait()

    async def _dispatch(
        self, event: str, key: bytes, standing: list[bytes], *, in_event: bool
    ) -> None:
        calling = self._calling
        for each in list(self.registrations):
            if isinstance(each, StreamRegistration):
                if event == "xadd":
                    each.notice(key)
            # While a sync callback of a KeysReader runs, no KeysReader gets events.
            elif (
                isinstance(each, KeysRegistration)
                and not in_event
                and each.wants(event, key, calling)
                and (each.key_types is None or await self._type_of(key) in each.key_types)
            ):
                async with self._with_keys(standing if each.mode == "sync" else []):
                    await each.fire(event, key, calling)

    @asynccontextmanager
    async def _with_keys(self, keys: list[bytes]) -> AsyncIterator[None]:
        """Sets keys that do not exist for the time of a sync callback, without any events."""
        made = [key for key in keys if await self._ask_unheard(b"SET", key, b"1", b"NX")]
        try:
            yield
        finally:
            for key in made:
                await self._ask_unheard(b"DEL", key)

    async def _ask_unheard(self, name: bytes, key: bytes, *more: bytes) -> Value:
        reply = decode(await self.own.ask(name, key, *more))
        await self._hear_all()
        self._events = deque(each for each in self._events if each[1] != key)
        return reply

    async def _type_of(self, key: bytes) -> str:
        return (await self._read_records([key]))[0][0]

    # Hooks

    def find_hooks(self, arguments: list[bytes], command: Command | None = None) -> Calling:
        """Returns the facts of a command for registrations with `commands`."""
        name = arguments[0].decode(errors="replace").upper()
        if name in ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"):
            return Calling(is_lua=True)
        if self.is_hooked(name, arguments):
            return Calling(frozenset([name]), command=command)
        return Calling()

    def is_hooked(self, name: str, arguments: list[bytes]) -> bool:
        """Returns whether a registration names this command and a prefix of one of its keys."""
        return any(
            each.matches(key)
            for each in self.registrations
            if isinstance(each, KeysRegistration)
            and name in {command.upper() for command in each.commands or ()}
            for key in self._commands[name].keys_of(arguments)
        )

    async def answer_hooked(self, name: str, arguments: list[bytes]) -> Command:
        """Runs a command for its client as the engine does: with all rights, in RESP2."""
        command = Command(arguments, asyncio.Event(), awaits=1)
        async with self.calling(Calling(frozenset([name]), command=command)):
            command.own_reply = await self.own.ask(*arguments)
        command.release()
        return command

    async def find_command(self, name: str) -> CommandFacts | None:
        """Returns the facts about a command, None if it is unknown; the caller holds the turn."""
        reply: Any = decode(await self.own.ask(b"COMMAND", b"INFO", name.encode()))
        if reply[0] is None:
            return None
        flags = frozenset(flag.text for flag in reply[0][2])
        self._commands[name.upper()] = CommandFacts(flags, *reply[0][3:6])
        return self._commands[name.upper()]

    # Readers; they run in the threads of executions

    def read_keys(
        self, keys: list[bytes], *, event: str | None = None, reads_value: bool = True
    ) -> Iterator[dict[str, object]]:
        """Yields the records of keys, with their present values."""
        if not reads_value:
            yield from ({"event": event, "key": to_python(key)} for key in keys)
            return
        found = self.wait(self._read_records_in_turn(keys, has_turn=RUNNING.turns > 0))
        for key, (kind, value) in zip(keys, found, strict=True):
            yield {"event": event, "key": to_python(key), "type": kind, "value": value}

    async def _read_records_in_turn(
        self, keys: list[bytes], *, has_turn: bool
    ) -> list[tuple[str, object]]:
        if has_turn:
            return await self._read_records(keys)
        async with self.turn:
            return await self._read_records(keys)

    async def _read_records(self, keys: list[bytes]) -> list[tuple[str, object]]:
        reply = decode(await self.own.ask(b"EVAL", _READ_KEYS, b"%d" % len(keys), *keys))
        if not isinstance(reply, list):
            raise TypeError(reply)
        return [(_kind(kind), _value(_kind(kind), value)) for kind, value in reply]

    def scan_keys(
        self, pattern: str, *, is_exact: bool, reads_value: bool
    ) -> Iterator[dict[str, object]]:
        """Yields the records of all keys that a glob matches; of one key if `is_exact`."""
        if is_exact:
            yield from self.read_keys([pattern.encode()], reads_value=reads_value)
            return
        cursor = b"0"
        while True:
            cursor, keys = self.wait(
                self.own_call(b"SCAN", cursor, b"MATCH", pattern.encode(), b"COUNT", _SCAN_COUNT)
            )
            yield from self.read_keys(keys, reads_value=reads_value)
            if cursor == b"0":
                return

    def read_stream(self, key: str, start: str) -> Iterator[dict[str, object]]:
        """Yields the entries of a stream after an id."""
        reply = self.wait(self.own_call(b"XREAD", b"STREAMS", key.encode(), start.encode()))
        yield from (record for _, record in _entries(reply))

    def read_group(self, key: bytes, count: int | None) -> Iterator[tuple[bytes, object]]:
        """Yields entries that are new to the consumer group; without a count its pending ones."""
        reply = self.wait(self._read_group(key, count))
        yield from _entries(reply)

    async def _read_group(self, key: bytes, count: int | None) -> Value:
        limit = () if count is None else (b"COUNT", b"%d" % count)
        start = b"0" if count is None else b">"
        read = (b"XREADGROUP", b"GROUP", self.GROUP, b"__gears_client__", *limit)
        reply = await self.own_call(*read, b"STREAMS", key, start)
        if isinstance(reply, Failure):
            await self.own_call(b"XGROUP", b"CREATE", key, self.GROUP, b"0")
            reply = await self.own_call(*read, b"STREAMS", key, start)
        return None if isinstance(reply, Failure) else reply

    async def find_streams(self, prefix: str) -> list[bytes]:
        """Returns the existing streams with a prefix."""
        found: list[bytes] = []
        cursor = b"0"
        while True:
            reply: Any = await self.own_call(
                *(b"SCAN", cursor, b"MATCH", prefix.encode(), b"COUNT", _SCAN_COUNT),
                *(b"TYPE", b"stream"),
            )
            cursor, keys = reply
            found += keys
            if cursor == b"0":
                return found

    def read_python(self, generate: FunctionType) -> Iterable[object]:
        """Yields the values of the generator that a function returns.

        If the function returns no generator, RedisGears calls it again and again without an end;
        the host takes one result and then waits until the execution is aborted.
        """
        result = generate()
        if hasattr(result, "__next__") and hasattr(result, "gi_frame"):
            yield from result
            return
        yield result
        while True:
            self.wait(asyncio.sleep(0.01))

    # Executions, sessions, registrations

    def next_id(self, kind: str) -> str:
        """Returns an id for an execution or a registration."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{_SHARD}-{self._counts[kind]}"

    def create_execution(
        self, session: Session, steps: list[Step], read: Callable[[], Iterable[object]]
    ) -> Execution:
        """Creates an execution, which the caller has to start."""
        execution = Execution(self.next_id("execution"), session, steps, read)
        self.executions[execution.id] = execution
        return execution

    def drop_execution(self, execution: Execution) -> None:
        """Removes an execution, and its session if nothing else belongs to this."""
        self.executions.pop(execution.id, None)
        execution.session.runs.discard(execution.id)
        self._forget_if_dead(execution.session)

    async def upload(
        self, script: bytes, session: Session, replaced: Session | None
    ) -> tuple[Upload, str | None]:
        """Runs the body of a script; returns the upload, and the traceback if it failed."""
        upload = Upload(session)
        async with self.turn:
            failure = await asyncio.to_thread(_run_body, script, upload)
            if failure is not None:
                if upload.execution is not None:
                    self.executions.pop(upload.execution.id, None)
                return upload, failure
            if upload.registrations:
                await self._see_to_events()  # the new registrations get no earlier events
                await self._hear_all()
                self._events.clear()
                for each in list(replaced.registrations) if replaced is not None else ():
                    self._remove(each)
                session.registrations = upload.registrations
                self.sessions[session.id] = session
                self.registrations += upload.registrations
                self._save()
        for each in upload.registrations:
            each.start()
        if upload.execution is not None:
            session.runs.add(upload.execution.id)
            Worker(self.pool).submit(upload.execution)
        return upload, None

    async def unregister(self, registration: Registration) -> None:
        """Removes a registration."""
        async with self.turn:
            self._remove(registration)
            self._save()

    def _remove(self, registration: Registration) -> None:
        registration.stop()
        self.registrations.remove(registration)
        registration.session.registrations.remove(registration)
        for each in registration.executions:
            self.executions.pop(each, None)
        self._forget_if_dead(registration.session)

    def _forget_if_dead(self, session: Session) -> None:
        if not session.is_alive and self.sessions.get(session.id) is session:
            del self.sessions[session.id]

    # State that outlives the process

    def _save(self) -> None:
        sessions = [
            {
                "id": session.id,
                "description": session.description,
                "requirements": session.requirements,
                "registrations": [each.to_saved() for each in session.registrations],
            }
            for session in self.sessions.values()
        ]
        new = self.folder / f"{SAVED}.{secrets.token_hex(4)}"
        new.write_bytes(pickle.dumps(sessions))
        os.replace(new, self.folder / SAVED)  # noqa: PTH105 - one step

    async def load(self) -> None:
        """Restores the registrations of the last process."""
        file = self.folder / SAVED
        if not file.exists():
            return
        for saved in pickle.loads(file.read_bytes()):  # noqa: S301 - of our own writing
            session = Session(saved["id"], saved["description"], saved["requirements"])
            self.sessions[session.id] = session
            for kind, values in saved["registrations"]:
                steps = pickle.loads(values["pickled_steps"])  # noqa: S301
                session.registrations.append(
                    kind(engine=self, session=session, steps=steps, **values)
                )
            self.registrations += session.registrations
        for each in self.registrations:
            for command in getattr(each, "commands", None) or ():
                await self.find_command(command)
        numbers = [int(each.id.rpartition("-")[2]) for each in self.registrations]
        self._counts["registration"] = max(numbers, default=0)
        for each in self.registrations:
            each.start()


def _run_body(script: bytes, upload: Upload) -> str | None:
    try:
        with RUNNING.entered(upload=upload, has_turn=True):
            code = compile(script, "<string>", "exec")
            exec(code, {"__name__": "__main__"})  # noqa: S102 - that is what it is for
    except BaseException as raised:  # noqa: BLE001 - whatever a script raises, SystemExit too
        return describe(raised)
    return None


def _standing_at(at: int, events: list[tuple[str, bytes]]) -> list[bytes]:
    """Returns the keys that existed at one event of a command: set before it, deleted after it.

    A Lua script sets such a key to tell something to a sync callback, which RedisGears runs at each
    event within the script, but the host only after the script.
    """
    if not {"set", "del"} <= {event for event, _ in events}:
        return []
    before = {key: event for event, key in events[:at] if event != "expire"}
    after = {key: event for event, key in reversed(events[at + 1 :])}
    return [key for key, event in before.items() if event == "set" and after.get(key) == "del"]


def _kind(kind: Any) -> str:  # noqa: ANN401 - a value of a reply
    name = bytes(kind).decode()
    return "unknown" if name in _UNKNOWN_TYPES else name


def _value(kind: str, value: Value) -> object:
    plain = to_python(value)
    return dict(zip(plain[::2], plain[1::2], strict=True)) if kind == "hash" else plain


def _entries(reply: Any) -> Iterator[tuple[bytes, dict[str, object]]]:  # noqa: ANN401
    """Yields ids and records; a deleted entry has only its id."""
    for key, entries in reply or ():
        for entry_id, fields in entries:
            plain = to_python(fields or [])
            value = dict(zip(plain[::2], plain[1::2], strict=True))
            yield (
                entry_id,
                {"key": to_python(key), "id": to_python(entry_id), "value": value},
            )
