"""The server for clients: a proxy before Valkey that itself answers RedisGears' commands."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tests.gears.host.engine import ALL_FLAGS, Engine, Link
from tests.gears.host.executions import to_reply
from tests.gears.host.registrations import Calling
from tests.gears.host.resp import Frames, encode, encode_command
from tests.gears.host.running import UNSET

if TYPE_CHECKING:
    from tests.gears.host.commands import Commands

# After one of these commands a connection gets messages, which look like replies.
_STREAMING: Final = {
    *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"),
}
_BLOCKING: Final = {
    *("BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP"),
    *("WAIT", "WAITAOF"),
}
_NOT_HERE: Final = "-Can not run gears inside a multi exec, lua, or when blocking is not allowed"


class Connection:
    """A client's connection, and one to Valkey, to which its other commands pass unchanged."""

    def __init__(
        self,
        engine: Engine,
        commands: Commands,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: Link,
    ) -> None:
        self._engine = engine
        self._commands = commands
        self._frames = Frames(reader)
        self._writer = writer
        self._link = link
        self._requests: asyncio.Queue[list[bytes]] = asyncio.Queue(64)
        self._replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._protocol = 2
        self._is_streaming = False
        self._has_ended = False
        self._queued: list[list[bytes]] | None = None  # within MULTI

    async def serve(self) -> None:
        """Answers commands until the client or Valkey closes its connection."""
        reading = asyncio.create_task(self._read_requests())
        relaying = asyncio.create_task(self._read_replies())
        answering = asyncio.create_task(self._answer_all())
        await asyncio.wait({reading, relaying, answering}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        relaying.cancel()
        self._link.close()
        self._replies.put_nowait(None)
        # `answering` is not cancelled: it may hold the engine's lock `turn`, perhaps for a thread
        # of a script.
        self._has_ended = True
        if self._requests.empty():
            self._requests.put_nowait([])
        await answering
        self._writer.close()

    async def _read_requests(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                await self._requests.put(await self._frames.next_request())

    async def _read_replies(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                frame = await self._link.frames.next()
                if self._is_streaming or frame.startswith(b">"):
                    self._writer.write(frame)
                else:
                    await self._replies.put(frame)

    async def _answer_all(self) -> None:
        with suppress(EOFError, OSError):
            while not self._has_ended:
                request = await self._requests.get()
                if request:
                    await self._answer(request)
                    await self._writer.drain()

    async def _answer(self, request: list[bytes]) -> None:
        name = request[0].decode(errors="replace").upper()
        if self._is_streaming or name in _STREAMING:
            self._is_streaming = True
            self._link.writer.write(encode_command(request))
        elif self._queued is not None:
            self._writer.write(await self._queue(name, request))
        elif self._commands.knows(request):
            if (refusal := await self._ask([b"PING"])).startswith(b"-NOAUTH"):
                self._writer.write(refusal)
                return
            self._writer.write(encode(await self._commands.answer(request), self._protocol))
        elif self._engine.is_hooked(name, request):
            self._writer.write(await self._answer_hooked(name, request))
        else:
            self._writer.write(await self._pass_on(name, request))

    async def _answer_hooked(self, name: str, request: list[bytes]) -> bytes:
        command = await self._engine.answer_hooked(name, request)
        await command.released.wait()
        if command.reply is UNSET:
            return command.own_reply
        return encode(to_reply(command.reply), self._protocol)

    async def _pass_on(self, name: str, request: list[bytes]) -> bytes:
        if name == "CONFIG" and b"notify-keyspace-events" in request:
            request = _with_all_flags(request)
        if name in _BLOCKING or (
            name.startswith("XREAD") and b"BLOCK" in map(bytes.upper, request)
        ):
            # Another client's command wakes this one, and handles the events of both.
            return await self._ask(request)
        async with self._engine.calling(self._engine.find_hooks(request)):
            reply = await self._ask(request)
        if name == "MULTI" and not reply.startswith(b"-"):
            self._queued = []
        if name == "HELLO" and len(request) > 1 and not reply.startswith(b"-"):
            self._protocol = int(request[1])
        if name == "RESET":
            self._protocol = 2
        return reply

    async def _queue(self, name: str, request: list[bytes]) -> bytes:
        """Queues a command in a transaction, or runs EXEC, DISCARD or RESET, which end it."""
        if name not in ("EXEC", "DISCARD", "RESET"):
            if self._commands.knows(request):
                request = [b"EVAL", b"return redis.error_reply(ARGV[1])", b"0", _NOT_HERE.encode()]
            self._queued = [*(self._queued or ()), request]
            return await self._ask(request)
        hooks = [self._engine.find_hooks(each) for each in self._queued or ()]
        self._queued = None
        calling = Calling(
            frozenset().union(*(each.names for each in hooks)), any(each.is_lua for each in hooks)
        )
        async with self._engine.calling(calling):
            return await self._ask(request)

    async def _ask(self, request: list[bytes]) -> bytes:
        self._link.writer.write(encode_command(request))
        reply = await self._replies.get()
        if reply is None:
            raise EOFError
        return reply


def _with_all_flags(request: list[bytes]) -> list[bytes]:
    """Returns a CONFIG SET that leaves all notifications on, because the host needs them."""
    changed = list(request)
    at = changed.index(b"notify-keyspace-events") + 1
    if changed[1].upper() == b"SET" and at < len(changed):
        changed[at] = ALL_FLAGS.encode()
    return changed
